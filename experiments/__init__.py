"""Experiments: each a file with its task, hyperparameters and expected numbers."""

from experiments import adult, cifar, masked_lm, mnist, modular, small_cnn, sparse_parities

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        sparse_parities.EXPERIMENT,
        modular.MODULAR,
        modular.MODULAR_STABILISED,
        mnist.EXPERIMENT,
        cifar.CIFAR10,
        cifar.CIFAR10_DESTABILISED,
        cifar.CIFAR100,
        cifar.CIFAR100_DESTABILISED,
        small_cnn.EXPERIMENT,
        adult.EXPERIMENT,
        masked_lm.EXPERIMENT,
    )
}

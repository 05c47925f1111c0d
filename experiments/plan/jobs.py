"""The training that an experiment's flags ask for, as a plan takes it."""

from seedmap.experiments.plan.programs import Job
from seedmap.experiments.runs.settings import check_training, schedule
from seedmap.experiments.tasks.base import Experiment, TrainingConfig
from seedmap.trainer import choose
from seedmap.trainer.checks import check_sizes
from seedmap.trainer.recipe import make_recipe


def job_of(experiment: Experiment, config: TrainingConfig, threshold: float | None) -> Job:
    """Returns the training of an experiment; data that are not named are replaced by their shape.

    Args:
        experiment: which.
        config: its hyperparameters.
        threshold: evaluation accuracy above which a seed has converged.

    Raises:
        UserError: a hyperparameter is out of range, or data that are named cannot be read.
    """
    check_training(config, fewest=1)
    data = experiment.stand_in(config) if experiment.stand_in else None
    setup = experiment.setup(config) if data is None else experiment.setup(config, data)
    check_sizes(setup.task, config.batch_size, config.record_every)
    steps, between = schedule(config, setup.task.num_train)
    recipe = make_recipe(
        setup.task,
        setup.optimizer,
        config.batch_size,
        between,
        choose(config.record, setup.rule, config.spectrum),
        threshold=threshold,
        stop_converged=config.early_stop == "each",
        precision=config.precision,
    )
    return Job(recipe, config.seeds, steps, config.seeds_at_once, config.vary)

"""Experiments: each a file with its task, hyperparameters and expected numbers."""

from experiments import sparse_parities

EXPERIMENTS = {experiment.name: experiment for experiment in (sparse_parities.EXPERIMENT,)}

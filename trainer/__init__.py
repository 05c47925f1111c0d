"""Train many seeds of a network at once, measuring their weights in the compiled program.

The natural way: a `Task` (data, model, loss) -> `train(task, optimizer, seeds, ...)` -> a
`TrainingRun`, whose xarray dataset has a row per seed and a column per record.
"""

from seedmap.metric_names import OUTCOMES, PAPER_METRICS
from seedmap.trainer.batched import Trainer, TrainState, make_trainer
from seedmap.trainer.checks import grid
from seedmap.trainer.loop import Saving, train
from seedmap.trainer.metrics.registry import MEASURES, choose
from seedmap.trainer.metrics.weights import Role, Rule, flax_rule, weight_metrics
from seedmap.trainer.noise.perturb import Fork, Perturbations
from seedmap.trainer.program import Progress
from seedmap.trainer.replicas import Replicas
from seedmap.trainer.step import SeedState
from seedmap.trainer.storage.results import TrainingRun, collect
from seedmap.trainer.streams import Streams, make_streams
from seedmap.trainer.task import Data, Noise, Task, Variables, in_drawn_order

__all__ = [
    "MEASURES",
    "OUTCOMES",
    "PAPER_METRICS",
    "Data",
    "Fork",
    "Noise",
    "Perturbations",
    "Progress",
    "Replicas",
    "Role",
    "Rule",
    "Saving",
    "SeedState",
    "Streams",
    "Task",
    "TrainState",
    "Trainer",
    "TrainingRun",
    "Variables",
    "choose",
    "collect",
    "flax_rule",
    "grid",
    "in_drawn_order",
    "make_streams",
    "make_trainer",
    "train",
    "weight_metrics",
]

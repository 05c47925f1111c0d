"""Train many seeds of a network at once, measuring their weights in the compiled program.

The natural way: a `Task` (data, model, loss) -> `train(task, optimizer, seeds, ...)` -> a
`TrainingRun`, whose xarray dataset has a row per seed and a column per record.
"""

from trainer.checks import grid
from trainer.collect import TrainingRun, collect
from trainer.measures import MEASURES, choose
from trainer.metrics import METRICS, Role, Rule, flax_rule, weight_metrics
from trainer.perturb import Fork, Perturbations
from trainer.program import Progress
from trainer.replica import OUTCOMES, SeedState
from trainer.run import train
from trainer.streams import Streams, make_streams
from trainer.task import Data, Noise, Task, Variables, in_drawn_order
from trainer.training import Trainer, TrainState, make_trainer

__all__ = [
    "MEASURES",
    "METRICS",
    "OUTCOMES",
    "Data",
    "Fork",
    "Noise",
    "Perturbations",
    "Progress",
    "Role",
    "Rule",
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

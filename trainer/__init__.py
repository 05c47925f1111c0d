"""Train many seeds of a network at once, measuring their weights in the compiled program.

The natural way: a `Task` (data, model, loss) -> `train(task, optimizer, seeds, ...)` -> a
`TrainingRun`, whose xarray dataset has a row per seed and a column per record.
"""

from trainer.metrics import METRICS, Role, flax_rule, weight_metrics
from trainer.run import TrainingRun, train
from trainer.streams import Streams, make_streams
from trainer.task import Data, Task
from trainer.training import OUTCOMES, SeedState, Trainer, TrainState, make_trainer

__all__ = [
    "METRICS",
    "OUTCOMES",
    "Data",
    "Role",
    "SeedState",
    "Streams",
    "Task",
    "TrainState",
    "Trainer",
    "TrainingRun",
    "flax_rule",
    "make_streams",
    "make_trainer",
    "train",
    "weight_metrics",
]

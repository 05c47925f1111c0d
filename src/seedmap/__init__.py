"""Training maps: train many seeds at once, record their weights, fit an HMM to the records.

    import seedmap as sm

    runs = sm.load("runs/parities")        # or sm.read("logs"), sm.from_frame(...)
    m = sm.fit_map(runs)
    m.num_states, m.paths, m.notes

Names are imported when they are used, so that `import seedmap` takes no time.
`seedmap.trainer`, `seedmap.hmm` and `seedmap.experiments` hold the rest.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seedmap.errors import UserError
    from seedmap.experiments.plan.own_task import plan
    from seedmap.experiments.recording.recorder import Recorder
    from seedmap.experiments.report.progress import fit_bar, training_bar
    from seedmap.experiments.runs.load import load
    from seedmap.fitting import Fit, fit
    from seedmap.logs import from_mlflow, from_tensorboard, from_wandb, read
    from seedmap.mapping import Map, fit_map
    from seedmap.runs import Runs, from_arrays, from_frame, from_xarray
    from seedmap.trainer import Data, Task, TrainingRun, train

_HOMES = {
    "Data": "seedmap.trainer",
    "Fit": "seedmap.fitting",
    "Map": "seedmap.mapping",
    "Recorder": "seedmap.experiments.recording.recorder",
    "Runs": "seedmap.runs",
    "Task": "seedmap.trainer",
    "TrainingRun": "seedmap.trainer",
    "UserError": "seedmap.errors",
    "fit": "seedmap.fitting",
    "fit_bar": "seedmap.experiments.report.progress",
    "fit_map": "seedmap.mapping",
    "from_arrays": "seedmap.runs",
    "from_frame": "seedmap.runs",
    "from_mlflow": "seedmap.logs",
    "from_tensorboard": "seedmap.logs",
    "from_wandb": "seedmap.logs",
    "from_xarray": "seedmap.runs",
    "load": "seedmap.experiments.runs.load",
    "plan": "seedmap.experiments.plan.own_task",
    "read": "seedmap.logs",
    "train": "seedmap.trainer",
    "training_bar": "seedmap.experiments.report.progress",
}

_PACKAGES = ("experiments", "hmm", "trainer")

__all__ = [
    "Data",
    "Fit",
    "Map",
    "Recorder",
    "Runs",
    "Task",
    "TrainingRun",
    "UserError",
    "fit",
    "fit_bar",
    "fit_map",
    "from_arrays",
    "from_frame",
    "from_mlflow",
    "from_tensorboard",
    "from_wandb",
    "from_xarray",
    "load",
    "plan",
    "read",
    "train",
    "training_bar",
]


def __getattr__(name: str) -> Any:
    """Imports a name when it is first used."""
    if name in _PACKAGES:
        return import_module(f"seedmap.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'seedmap' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    special = (name for name in globals() if name.startswith("__"))
    return sorted({*__all__, *_PACKAGES, *special})

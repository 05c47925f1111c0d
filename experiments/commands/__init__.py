"""The commands of `seedmap` by name; each is a file here, imported when it is asked for."""

from types import MappingProxyType
from typing import NamedTuple


class Command(NamedTuple):
    """A command.

    Attributes:
        arguments: what follows its name, for `--help`.
        summary: one line for `--help`.
        module: in this package.
        function: of the module, from the words that follow the name to nothing.
    """

    arguments: str
    summary: str
    module: str
    function: str


COMMANDS = MappingProxyType(
    {
        "run": Command(
            "EXPERIMENT", "train, fit, map and report in one go", "train", "run_command"
        ),
        "train": Command(
            "EXPERIMENT", "train all seeds and record their metrics", "train", "train_command"
        ),
        "import": Command(
            "PATH",
            "import logs or checkpoints of runs trained elsewhere as a run folder",
            "import_runs",
            "import_command",
        ),
        "collect": Command(
            "DIR", "merge the results of several training processes", "train", "collect_command"
        ),
        "fit": Command(
            "PATH",
            "fit the HMM sweep to a run's metrics, or to CSV files, and decode every run",
            "fit",
            "fit_command",
        ),
        "map": Command(
            "DIR", "build the training map of a fitted run: summary.json", "map", "map_command"
        ),
        "report": Command("DIR", "draw the figures and write report.html", "map", "report_command"),
        "baselines": Command(
            "DIR",
            "compare the regression with k-means, HMMs on fewer metrics, and early checkpoints",
            "baselines",
            "baselines_command",
        ),
        "noise": Command(
            "EXPERIMENT",
            "measure the effect of each source of randomness: initialisation, order, rounding, ...",
            "noise",
            "noise_command",
        ),
        "noise compare": Command(
            "RUN RUN",
            "compare studies of noise trained in separate processes, replica by replica",
            "noise_compare",
            "compare_noise_command",
        ),
        "noise backend": Command(
            "EXPERIMENT",
            "train one replica under several compiler flags, threads and batchings",
            "noise_backend",
            "backend_command",
        ),
        "plan": Command(
            "EXPERIMENT",
            "compile for a TPU or GPU that need not be there: memory, seeds that fit, least time",
            "plan",
            "plan_command",
        ),
        "compare": Command(
            "RUN RUN",
            "compare the maps of several runs, also by one HMM for all of them",
            "compare",
            "compare_command",
        ),
        "forecast": Command(
            "DIR",
            "forecast seeds not converged by --upto, each from the other runs",
            "forecast",
            "forecast_command",
        ),
        "overhead": Command(
            "",
            "time training steps: costs of determinism, precision and many seeds",
            "overhead",
            "overhead_command",
        ),
    }
)

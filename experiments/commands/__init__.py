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
        examples: what may follow the name, for its own help.
        computes: whether it needs JAX, which takes a second to import.
    """

    arguments: str
    summary: str
    module: str
    function: str
    examples: tuple[str, ...] = ()
    computes: bool = True


COMMANDS = MappingProxyType(
    {
        "run": Command(
            "EXPERIMENT",
            "train, fit, map and report in one go",
            "train",
            "run_command",
            ("parities --preset quick", "parities --seeds 100 --out runs/parities"),
        ),
        "train": Command(
            "EXPERIMENT",
            "train all seeds and record their metrics",
            "train",
            "train_command",
            ("parities --out runs/mine --seeds 100", "parities --out runs/mine --resume"),
        ),
        "import": Command(
            "PATH",
            "import logs or checkpoints of runs trained elsewhere as a run folder",
            "import_runs",
            "import_command",
            ("logs --dry-run", "logs --out runs/mine --converged 'train_loss < 1.6'"),
        ),
        "import checkpoints": Command(
            "PATTERN",
            "import checkpoints, whole or sharded, of any layout",
            "import_runs",
            "checkpoints_command",
            (
                "'ckpts/seed_{run}/step_{step}' --out runs/mine",
                "'ckpts/seed_{run}/step_{step}' --out runs/mine --outcomes losses.csv --resume",
            ),
        ),
        "import metrics": Command(
            "PATH",
            "import logs: the same as `seedmap import`",
            "import_runs",
            "metrics_command",
            ("runs.csv --out runs/mine --run-column id", "logs --out runs/mine --metrics l2 gnorm"),
        ),
        "collect": Command(
            "DIR",
            "merge the results of several processes that train, or import checkpoints",
            "train",
            "collect_command",
            ("runs/many",),
        ),
        "fit": Command(
            "PATH",
            "fit the HMM sweep to a run's metrics, or to CSV files, and decode every run",
            "fit",
            "fit_command",
            ("runs/mine --states 1-8", "csv-folder --out runs/mine --compare-methods"),
        ),
        "map": Command(
            "DIR",
            "build the training map of a fitted run: summary.json",
            "map",
            "map_command",
            ("runs/mine", "runs/mine --threshold 0.99"),
        ),
        "report": Command(
            "DIR",
            "draw the figures and write report.html",
            "map",
            "report_command",
            ("runs/mine",),
        ),
        "show": Command(
            "DIR",
            "print again what a run, a study or a comparison found",
            "show",
            "show_command",
            ("runs/mine", "runs/mine --json", "runs/mine --open"),
            computes=False,
        ),
        "ls": Command(
            "FOLDER",
            "list the runs in a folder",
            "show",
            "list_command",
            ("runs", "runs --json"),
            computes=False,
        ),
        "baselines": Command(
            "DIR",
            "compare the regression with k-means, HMMs on fewer metrics, and early checkpoints",
            "baselines",
            "baselines_command",
            ("runs/mine",),
        ),
        "noise": Command(
            "EXPERIMENT",
            "measure the effect of each source of randomness: initialisation, order, rounding, ...",
            "noise",
            "noise_command",
            ("parities --preset quick", "parities --sources init order ulp --roots 1"),
        ),
        "noise compare": Command(
            "RUN RUN",
            "compare studies of noise trained in separate processes, replica by replica",
            "noise_compare",
            "compare_noise_command",
            ("runs/on-cpu runs/on-gpu", "runs/on-cpu runs/on-gpu --out runs/tools"),
        ),
        "noise backend": Command(
            "EXPERIMENT",
            "train one replica under several compiler flags, threads and batchings",
            "noise_backend",
            "backend_command",
            (
                "parities --preset quick",
                "parities --preset quick --settings default one-thread vmapped",
            ),
        ),
        "plan": Command(
            "EXPERIMENT",
            "compile for a TPU or GPU that need not be there: memory, seeds that fit, least time",
            "plan",
            "plan_command",
            (
                "modular --on tpu:v5e:2x2 --seeds 4096",
                "parities --preset paper --on gpu:h100 --out runs/planned",
            ),
        ),
        "compare": Command(
            "RUN RUN",
            "compare the maps of several runs, also by one HMM for all of them",
            "compare",
            "compare_command",
            ("runs/a runs/b", "runs/a runs/b --together --out runs/joint"),
        ),
        "forecast": Command(
            "DIR",
            "forecast seeds not converged by --upto, each from the other runs",
            "forecast",
            "forecast_command",
            ("runs/mine --upto 100", "runs/mine --upto 100 --skill"),
        ),
        "overhead": Command(
            "",
            "time training steps: costs of determinism, precision and many seeds",
            "overhead",
            "overhead_command",
            (
                "--out runs/overhead --networks smallcnn",
                "--out runs/overhead --networks smallcnn resnet18 --modes default vmapped",
            ),
        ),
        "completion": Command(
            "SHELL",
            "print the completion of bash, zsh or fish, to be read at the shell's start",
            "completion",
            "completion_command",
            ("bash >> ~/.bashrc", "fish > ~/.config/fish/completions/seedmap.fish"),
            computes=False,
        ),
    }
)
WITH_EXPERIMENT = tuple(
    name for name, command in COMMANDS.items() if command.arguments == "EXPERIMENT"
)

"""Every command that writes a folder, stopped before each of its file operations.

The table of stop points: pytest tests/experiments/test_crashes.py -n 0 -rP
"""

import shutil

import numpy as np
import pandas as pd
import pytest

from helpers.command import seedmap
from helpers.crashes import Case, replay
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.fit_and_map import read_fitted, read_mapped
from seedmap.experiments.runs.import_metrics import import_metrics

METRICS = ("l1", "l2")
FIT = "--restarts 1 --iterations 4 --covariance diagonal --prior weak --resamples 0".split()
FIT += ["--metrics", *METRICS]
SURVIVED: dict[str, tuple[int, int]] = {}

_RUNS = "seedmap.experiments.runs"
ENVIRONMENT = (f"{_RUNS}.folder:environment",)
FITTING = (
    f"{_RUNS}.fit_and_map:fit_priors",
    f"{_RUNS}.fit_and_map:restart_stability",
    f"{_RUNS}.fit_and_map:prior_row",
)
ANALYSIS = (f"{_RUNS}.fit_and_map:analyse_fitted", f"{_RUNS}.fit_and_map:stability")
DRAWING = ("seedmap.hmm.figures.style:png", "seedmap.experiments.report.html:png")


def write_csv(folder, seed):
    """Runs that pass through two stages, a CSV file each."""
    rng, steps = np.random.default_rng(seed), np.arange(1, 21)
    folder.mkdir()
    for run in range(8):
        late = steps > 8 + run
        frame = pd.DataFrame({"step": steps, "eval_accuracy": 0.5 + 0.45 * late})
        for name in METRICS:
            frame[name] = 3.0 * late + 0.3 * rng.normal(size=len(steps))
        frame.to_csv(folder / f"{run}.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run that is imported, then fitted, mapped and reported, a folder for each; CSV files."""
    base = tmp_path_factory.mktemp("base")
    write_csv(base / "csv", 0), write_csv(base / "other", 1)
    import_metrics(base / "csv", base / "imported", METRICS, 0.9)
    steps = [
        ("fitted", ("fit", "--states", "2", *FIT)),
        ("mapped", ("map",)),
        ("reported", ("report",)),
    ]
    before = "imported"
    for name, (command, *flags) in steps:
        shutil.copytree(base / before, base / name)
        assert seedmap(command, base / name, *flags) == 0
        before = name
    return base


def _survives(name, case, tmp_path, capsys):
    SURVIVED[name] = replay(case, tmp_path / "run", capsys)
    print(f"{name}: {SURVIVED[name][0]} of {SURVIVED[name][1]}")


STEPS = {
    "import metrics": lambda base: Case(
        None,
        lambda folder: ("import", "metrics", base / "csv", "--out", folder),
        run_folder.read_dataset,
        ENVIRONMENT,
        "holds another run",
    ),
    "import metrics --overwrite": lambda base: Case(
        base / "reported",
        lambda folder: ("import", "metrics", base / "other", "--out", folder, "--overwrite"),
        run_folder.read_dataset,
        ENVIRONMENT,
    ),
    "fit": lambda base: Case(
        base / "imported",
        lambda folder: ("fit", folder, "--states", "3", *FIT),
        read_fitted,
        FITTING,
    ),
    "fit --overwrite": lambda base: Case(
        base / "reported",
        lambda folder: ("fit", folder, "--states", "3", *FIT, "--overwrite"),
        read_fitted,
        FITTING,
    ),
    "fit --out": lambda base: Case(
        None,
        lambda folder: ("fit", base / "imported", "--out", folder, "--states", "3", *FIT),
        read_fitted,
        FITTING,
        "holds another run",
    ),
    "fit --out --overwrite": lambda base: Case(
        base / "reported",
        lambda folder: (
            *("fit", base / "csv", "--out", folder, "--states", "3", *FIT, "--overwrite"),
        ),
        read_fitted,
        (*FITTING, *ENVIRONMENT),
    ),
    "map": lambda base: Case(
        base / "fitted", lambda folder: ("map", folder), read_mapped, ANALYSIS
    ),
    "map again": lambda base: Case(
        base / "reported",
        lambda folder: ("map", folder, "--threshold", "0.8"),
        read_mapped,
        ANALYSIS,
    ),
    "report": lambda base: Case(
        base / "mapped",
        lambda folder: ("report", folder),
        read_mapped,
        (*ANALYSIS, *DRAWING, f"{_RUNS}.report:make_figures"),
    ),
    "baselines": lambda base: Case(
        base / "mapped",
        lambda folder: ("baselines", folder),
        read_mapped,
        (*ANALYSIS, f"{_RUNS}.baselines:compare_baselines"),
    ),
    "forecast --skill": lambda base: Case(
        base / "imported",
        lambda folder: ("forecast", folder, "--upto", "3", "--skill"),
        lambda folder: run_folder.read_json(folder, run_folder.FORECAST, "forecast"),
        (
            *DRAWING,
            f"{_RUNS}.forecast:fit_forecaster",
            f"{_RUNS}.forecast:forecast",
            f"{_RUNS}.forecast:forecast_skill",
            "seedmap.hmm.figures:plot_forecast_skill",
        ),
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_stopped_anywhere(name, base, tmp_path, capsys):
    _survives(name, STEPS[name](base), tmp_path, capsys)

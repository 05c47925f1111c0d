"""Every command that writes a folder, stopped before each of its file operations.

The quick tests stop the longest commands before every third operation only. The table of all stop
points: pytest tests/experiments/test_crashes.py -n 0 -rP -m "slow or not slow"
"""

import resource
import shutil
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from helpers.command import seedmap
from helpers.crashes import Case, Replay, refuse, replay
from helpers.kills import Killed, killed_when
from seedmap import files
from seedmap.experiments import load_experiment
from seedmap.experiments.recording.recorder import Recorder
from seedmap.experiments.runs import folder as run_folder, forecast, train as training
from seedmap.experiments.runs.fit_and_map import read_mapped
from seedmap.experiments.runs.fitted import read_fitted
from seedmap.experiments.runs.import_metrics import import_metrics
from seedmap.experiments.tasks.sparse_parities import ParitiesConfig
from seedmap.hmm.forecasting.forecaster import Forecast
from seedmap.hmm.training_map import branches
from seedmap.lock import SERVICE

METRICS = ("l1", "l2")
FIT = "--restarts 1 --iterations 4 --resamples 0".split()
FIT += ["--metrics", *METRICS]

_RUNS, _COMMANDS = "seedmap.experiments.runs", "seedmap.experiments.commands"
ENVIRONMENT = (f"{_RUNS}.folder:environment", f"{_COMMANDS}.import_runs:parse")
FITTING = (
    f"{_COMMANDS}.fit:parse",
    f"{_RUNS}.fit_and_map:dataset_runs",
    f"{_RUNS}.fit_and_map:make_fit",
)
ANALYSIS = (
    f"{_COMMANDS}.map:parse",
    f"{_RUNS}.fit_and_map:analyse_fitted",
    *(f"{_RUNS}.fit_and_map:{name}" for name in ("find_branches", "find_out", "stability")),
)
DRAWING = ("seedmap.experiments.report.html:svg",)


@contextmanager
def limited(size):
    """Limits the size of files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


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


@pytest.fixture(scope="module", autouse=True)
def few_sizes():
    """Branches are sought at 4 states only: more would take another program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(branches, "STATES", (4,))
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run that is imported, then fitted, mapped and reported, a folder for each; CSV files."""
    base = tmp_path_factory.mktemp("base")
    write_csv(base / "csv", 0), write_csv(base / "other", 1)
    import_metrics(base / "csv", base / "imported", metrics=METRICS)
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


@pytest.fixture(scope="module")
def recorded(base):
    """Beside them runs recorded from their loops, and the same fitted and then continued."""
    record(base / "recorded", 12)
    shutil.copytree(base / "recorded", base / "recorded and fitted")
    assert seedmap("fit", base / "recorded and fitted", "--states", "2", *FIT) == 0
    record(base / "recorded and fitted", 16)


def record(folder, steps):
    """Runs that pass through two stages, recorded from their loops."""
    for run in range(6):
        rng = np.random.default_rng(run)
        with Recorder(folder, str(run)) as recorder:
            for step in range(steps):
                weight = rng.normal(size=(4, 3)) * (3 if step > 5 + run % 3 else 1)
                recorder.record(step, {"fc.weight": weight, "fc.bias": weight[:, 0]})


# A training that has come to its end, and is not collected yet.

PARITIES = load_experiment("parities")
SMALL = {"epochs": 6, "record_every": 2, "hidden": 8, "train_size": 64, "test_size": 20}
SETTINGS = ParitiesConfig(seeds=6, seeds_at_once=6, record=("l2",), **SMALL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What `trainer.train` returned and left, and the parameters as Orbax wrote them."""
    folder = tmp_path_factory.mktemp("trained")
    returned = []

    def train(*arguments, **options):
        returned.append(original(*arguments, **options))
        return returned[0]

    original = training.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train", train)
        with killed_when(lambda kind, path: path.name == "draft"), pytest.raises(Killed):
            training.train_run(PARITIES, SETTINGS, folder / "ended", 0.9)
    shutil.rmtree(folder / "ended" / ".seedmap")
    run_folder.save_params(folder, returned[0].params, "its id")
    return folder, returned[0]


@pytest.fixture
def replayed(trained, monkeypatch):
    """Training and Orbax are replayed: they leave what they left, and announce it."""
    folder, run = trained

    def train(*_, saving, **__):
        files.announce("write", saving.folder / "part-0")
        shutil.copytree(
            folder / "ended" / "training" / "part-0", saving.folder / "part-0", dirs_exist_ok=True
        )
        return run

    def save_params(target, params, training_id):
        files.announce("write", target / run_folder.CHECKPOINT)
        shutil.copytree(folder / run_folder.CHECKPOINT, target / run_folder.CHECKPOINT)

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(training, "collect", lambda _: run)
    monkeypatch.setattr(run_folder, "save_params", save_params)


def _survives(name, case, tmp_path, capsys, every=1):
    survived, stops = replay(case, tmp_path / "run", capsys, every)
    print(f"{name}: {survived} of {stops}")


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
    "fit of recorded runs": lambda base: Case(
        base / "recorded",
        lambda folder: ("fit", folder, "--states", "3", *FIT),
        read_fitted,
        (*FITTING, *ENVIRONMENT),
    ),
    "fit of recorded runs again": lambda base: Case(
        base / "recorded and fitted",
        lambda folder: ("fit", folder, "--states", "3", *FIT),
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
        (*ANALYSIS, f"{_COMMANDS}.baselines:parse"),
    ),
}


def compare_baselines(*_, upto, **__):
    """Rows as of the models, which are dear: what is written of them is what counts."""
    names = ["HMM", *(f"up to step {time:g}" for time in upto)]
    row = {"num_states": 2, "num_runs": 8, "r2": 0.5, "leave_one_out_r2": 0.4, "f_pvalue": 0.01}
    return [{"name": name} | row for name in names]


# Of variants of one command that share their writing the shorter stands among the quick tests.
LONG = (
    *("import metrics --overwrite", "fit --overwrite", "fit --out", "map again"),
    *("fit of recorded runs", "fit of recorded runs again"),
)


# Of the rest those with the most to do are stopped before every third operation there.
EVERY_THIRD = ("import metrics", "fit", "fit --out --overwrite", "map", "report", "baselines")


@pytest.mark.parametrize(
    ("name", "every"),
    [
        *((name, 3 if name in EVERY_THIRD else 1) for name in STEPS if name not in LONG),
        *(pytest.param(n, 1, marks=pytest.mark.slow) for n in (*LONG, *EVERY_THIRD)),
    ],
)
def test_a_step_stopped_anywhere(name, every, base, tmp_path, capsys, monkeypatch, request):
    if "recorded" in name:
        request.getfixturevalue("recorded")
    monkeypatch.setattr(f"{_RUNS}.baselines.compare_baselines", compare_baselines)
    _survives(name, STEPS[name](base), tmp_path, capsys, every)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["import metrics", "fit --overwrite", "report"])
def test_a_disk_that_refuses_any_operation(name, base, tmp_path, capsys):
    refuse(STEPS[name](base), tmp_path / "run", capsys)


@pytest.mark.parametrize("name", ["import metrics --overwrite", "fit", "map again", "report"])
def test_a_full_disk_leaves_the_former_results(name, base, tmp_path, capsys):
    """A limit on the size of files stands for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        case = Replay(STEPS[name](base), tmp_path / "run", patch)
        for size in (300, 3000):
            case.begin()
            capsys.readouterr()
            with limited(size):
                assert case.execute() == 2
            *_, line = capsys.readouterr().err.splitlines()
            assert line.startswith(f"seedmap: cannot write or read {tmp_path}")
            assert line.endswith("File too large")
            assert case.state() == "former"
            assert not (tmp_path / "run" / SERVICE).exists()


def test_a_full_disk_under_orbax_is_named(tmp_path):
    with limited(100), pytest.raises(OSError, match="File too large") as caught:
        run_folder.save_params(tmp_path, {"w": np.zeros((100, 100))}, "its id")
    assert caught.value.filename == str(tmp_path / run_folder.CHECKPOINT)


def test_a_forecast_stopped_anywhere(base, tmp_path, capsys, monkeypatch):
    """Forecasting itself, which is dear, is replaced."""
    made = Forecast(6.0, 0.5, 12.0, 9.0, 20.0, 0.9, 7)
    for name, result in {"fit_forecaster": None, "forecast": made, "forecast_skill": []}.items():
        monkeypatch.setattr(forecast, name, lambda *_, result=result: result)
    figure = Figure()
    monkeypatch.setattr("seedmap.hmm.figures.plot_forecast_skill", lambda *_: figure)
    case = Case(
        base / "imported",
        lambda folder: ("forecast", folder, "--upto", "6", "--skill"),
        lambda folder: run_folder.read_json(folder, run_folder.FORECAST, "forecast"),
        (*DRAWING, f"{_COMMANDS}.forecast:parse"),
    )
    _survives("forecast --skill", case, tmp_path, capsys)


def _train(**how):
    def run(folder):
        assert training.train_run(PARITIES, SETTINGS, folder, 0.9, **how)

    return run


TRAININGS = {
    "train": lambda base, ended: Case(
        None,
        _train(),
        run_folder.load_params,
        ENVIRONMENT,
        "holds another run",
        resume=_train(resume=True),
    ),
    "train --overwrite": lambda base, ended: Case(
        base / "reported", _train(overwrite=True), run_folder.load_params, ENVIRONMENT
    ),
    "train --resume": lambda base, ended: Case(
        ended, _train(resume=True), run_folder.load_params, ENVIRONMENT
    ),
    "collect": lambda base, ended: Case(
        ended,
        lambda folder: ("collect", folder),
        run_folder.load_params,
        (f"{_COMMANDS}.train:parse",),
        "it is collected",
    ),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_stopped_anywhere(name, base, trained, replayed, tmp_path, capsys):
    _survives(name, TRAININGS[name](base, trained[0] / "ended"), tmp_path, capsys)

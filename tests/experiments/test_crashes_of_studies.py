"""Studies, comparisons and imports of checkpoints, stopped before each of their file operations.

The table of stop points: pytest tests/experiments/test_crashes_of_studies.py -n 0 -rP
"""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from safetensors.numpy import save_file

from helpers import studies
from helpers.command import seedmap
from helpers.crashes import Case, replay
from helpers.plans import small_plan
from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.noise.backend.results import BackendSummary
from seedmap.experiments.noise.folder import load_study
from seedmap.experiments.noise.results import StudySummary
from seedmap.experiments.noise.steps import measure_study, report_study
from seedmap.experiments.noise.variants import make_variants
from seedmap.experiments.overhead import processes
from seedmap.experiments.overhead.measuring import Timing, Trial
from seedmap.experiments.overhead.results import OverheadSummary
from seedmap.experiments.plan.results import Plan
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.compare import Comparison
from seedmap.experiments.runs.import_metrics import import_frame
from seedmap.experiments.runs.read_result import read_result
from seedmap.experiments.tasks.base import FitConfig, MapConfig
from seedmap.hmm.io import load_hmm

REPLICAS, RECORDS = 6, 20
FIT = FitConfig(
    states="2",
    restarts=1,
    iterations=4,
    resamples=0,
    metrics=("l1", "l2"),
)
_RUNS, _NOISE = "seedmap.experiments.runs", "seedmap.experiments.noise"
_COMMANDS, _REPORT = "seedmap.experiments.commands", "seedmap.experiments.report"
DRAWING = (f"{_REPORT}.html:svg",)
MEASURING = (
    *(f"{_RUNS}.fit_and_map:{name}" for name in ("make_fit", "find_branches", "find_out")),
    *(f"{_RUNS}.fit_and_map:{name}" for name in ("analyse_fitted", "stability", "dataset_runs")),
    *(f"{_NOISE}.steps:{name}" for name in ("load_study", "summarise_study", "read_paths")),
    *DRAWING,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study whose replicas pass through two stages, as its training leaves it."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    variants = make_variants(("order",), REPLICAS)
    rows, rng = 2 * REPLICAS, np.random.default_rng(0)
    late = np.arange(RECORDS) > 6 + np.arange(rows)[:, None] % 8
    values = {name: 3.0 * late + 0.3 * rng.normal(size=late.shape) for name in ("l1", "l2")}
    values |= {"eval_accuracy": 0.5 + 0.45 * late, "distance": rng.random(late.shape)}
    values |= {"relative_distance": values["distance"], "churn": 0.1 * values["distance"]}
    values |= {"first_apart": np.full(late.shape, np.nan), "train_loss": rng.random(late.shape)}
    step = 10 * np.arange(1, RECORDS + 1)
    dataset = xr.Dataset(
        {name: (("seed", "step"), array) for name, array in values.items()}
        | {"diverged": ("seed", np.full(rows, -1))},
        {"seed": np.arange(rows), "step": step, "epoch": ("step", step / 5)},
    )
    config = studies.content(variants, threshold=0.9)
    return studies.write(folder, studies.numbers(rows), config, dataset)


@pytest.fixture(scope="module")
def measured(study):
    """The study measured and reported."""
    folder = study.with_name("measured")
    shutil.copytree(study, folder)
    measure_study(folder, "own", FIT, MapConfig())
    report_study(folder)
    return folder


def read_noise(folder):
    load_study(folder)
    load_hmm(folder / run_folder.NOISE_MAP)
    read_result(StudySummary, folder, run_folder.NOISE, "noise")


def _measure(folder):
    measure_study(folder, "own", FIT, MapConfig())


def _measure_otherwise(folder):
    measure_study(folder, "own", replace(FIT, iterations=5), MapConfig())


STUDIES = {
    "noise, measures": lambda study, measured: Case(study, _measure, read_noise, MEASURING),
    "noise, measures again": lambda study, measured: Case(
        measured, _measure_otherwise, read_noise, MEASURING
    ),
    "noise, report": lambda study, measured: Case(
        measured,
        lambda folder: report_study(folder) and None,
        read_noise,
        (
            *(*DRAWING, f"{_NOISE}.steps:load_study", f"{_NOISE}.steps:make_figures"),
            f"{_NOISE}.steps:_map_figures",
        ),
    ),
}


def _survives(name, case, tmp_path, capsys):
    survived, stops = replay(case, tmp_path / "run", capsys)
    print(f"{name}: {survived} of {stops}")


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_stopped_anywhere(name, study, measured, tmp_path, capsys):
    bare = tmp_path / "bare"
    shutil.copytree(measured, bare)
    if name == "noise, report":
        files.clear(bare, (run_folder.REPORT, run_folder.FIGURES))
    _survives(name, STUDIES[name](study, bare), tmp_path, capsys)


@pytest.mark.slow
def test_a_study_stopped_between_training_and_measures_is_to_be_resumed(study, measured):
    with pytest.raises(UserError, match=r"holds a study not measured yet; .* add --resume to cont"):
        run_folder.check_free(study, overwrite=False)
    with pytest.raises(UserError, match=r"holds another run; .* add --overwrite to replace it"):
        run_folder.check_free(measured, overwrite=False)


# Settings of the tools

PROCESSES = {name: ("--settings", name, "--replicas", "2") for name in ("default", "one-thread")}


@pytest.fixture
def processes_replayed(tmp_path_factory, monkeypatch):
    """A process leaves a made-up study, which another of its setting leaves as well."""
    made = tmp_path_factory.mktemp("processes")
    for shift, name in enumerate(PROCESSES):
        values = studies.numbers(1)
        values["params"]["bias"] += np.float32(shift)
        studies.write(made / name, values, studies.content(make_variants((), 1)))

    def run_child(child, argv, on_message):
        files.announce("write", child.folder)
        shutil.copytree(made / child.setting.name, child.folder)
        log = child.folder.parent / "logs" / f"{child.folder.name}.log"
        log.parent.mkdir(exist_ok=True)
        log.write_text(f"{argv}")

    monkeypatch.setattr(f"{_COMMANDS}.noise_backend.run_child", run_child)


def read_backend(folder):
    summary = read_result(BackendSummary, folder, "backend.json", "noise backend")
    for name in summary.children:
        load_study(folder / name)
        assert (folder / "logs" / f"{name}.log").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["", "--overwrite", "--resume"])
def test_a_study_of_the_tools_stopped_anywhere(how, processes_replayed, tmp_path, capsys):
    words, out = ("noise", "backend", "parities"), tmp_path / "older"
    settings = PROCESSES["default"]
    if how == "--resume":
        settings = ("--settings", *PROCESSES, "--replicas", "2")
    if how:
        older = PROCESSES["default" if how == "--resume" else "one-thread"]
        assert seedmap(*words, *older, "--out", out) == 0

    def resume(folder):
        assert seedmap(*words, *settings, "--out", folder, "--resume") == 0

    case = Case(
        out if how else None,
        lambda folder: (*words, *settings, "--out", folder, *([how] if how else [])),
        read_backend,
        (
            *(*DRAWING, f"{_NOISE}.report.backend:plot_differences"),
            f"{_NOISE}.backend.study:measure",
        ),
        None if how else "holds another study",
        resume,
    )
    _survives(" ".join(["noise backend", how]), case, tmp_path, capsys)


# Comparisons


@pytest.mark.slow
def test_a_comparison_of_studies_stopped_anywhere(study, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(study, other)
    dear = (
        *(*DRAWING, f"{_COMMANDS}.noise_compare:parse", f"{_NOISE}.compare:compare_studies"),
        f"{_NOISE}.report.compare:plot_differences",
    )
    words = ("noise", "compare", study, other, "--out")
    case = Case(None, lambda folder: (*words, folder), load_comparison, dear)
    _survives("noise compare", case, tmp_path, capsys)


def load_comparison(folder):
    assert (folder / "noise_compare.html").is_file()
    run_folder.read_json(folder, "noise_compare.json", "noise compare", ("pairs",))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two mapped runs."""
    base = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        rng, frames = np.random.default_rng(seed), {}
        for run in range(6):
            late = np.arange(RECORDS) > 8 + run
            columns = {
                "step": np.arange(1, RECORDS + 1),
                "eval_accuracy": 0.5 + 0.45 * late,
                "l1": 3.0 * late + 0.3 * rng.normal(size=RECORDS),
                "l2": late + 0.3 * rng.normal(size=RECORDS),
            }
            frames[str(run)] = pd.DataFrame(columns)
        import_frame(frames, base / str(seed), metrics=("l1", "l2"))
    flags = "--states 2 --restarts 1 --iterations 4 --covariance diagonal --resamples 0".split()
    for seed in range(2):
        assert seedmap("fit", base / str(seed), "--metrics", "l1", "l2", *flags) == 0
        assert seedmap("map", base / str(seed)) == 0
    return base


@pytest.mark.slow
@pytest.mark.parametrize("former", [False, True])
def test_a_comparison_of_runs_stopped_anywhere(former, runs, tmp_path, capsys):
    words = ("compare", runs / "0", runs / "1", "--together", "--out")
    older = tmp_path / "older"
    if former:
        assert seedmap("compare", runs / "1", runs / "0", "--out", older) == 0

    def read(folder):
        read_result(Comparison, folder, "compare.json", "compare")
        load_hmm(folder)

    dear = (
        *(*DRAWING, f"{_COMMANDS}.compare:parse", f"{_RUNS}.compare:read_runs"),
        *(f"{_RUNS}.compare_joint:fit_runs_together", f"{_REPORT}.comparison:make_figures"),
    )
    case = Case(older if former else None, lambda folder: (*words, folder), read, dear)
    _survives("compare, again" if former else "compare", case, tmp_path, capsys)


# Overhead


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_a_measurement_stopped_anywhere(flags, tmp_path, capsys, monkeypatch):
    def measure(networks, modes, settings, trials):
        rows = [Timing("smallcnn", m.name, 32, 1, [1.0, 1.0], 10, 1.0, 100, "t") for m in modes]
        yield rows
        yield rows + [replace(row, network="smallcnn-bn") for row in rows]

    device = {"platform": "cpu", "kind": "a fake", "count": 1, "cpu_cores": 2}
    overhead = f"{_COMMANDS}.overhead"
    monkeypatch.setattr(processes, "find_device", lambda scratch: device)
    monkeypatch.setattr(f"{overhead}._try", lambda n, *_: [Trial(each.name) for each in n])
    monkeypatch.setattr(f"{overhead}._measure", measure)
    words = ("overhead", "--networks", "smallcnn", "smallcnn-bn", "--modes", "one-thread", "--out")
    older = tmp_path / "older"
    if flags:
        assert seedmap(*words, older, "--steps", "50") == 0

    def read(folder):
        read_result(OverheadSummary, folder, "overhead.json", "overhead")

    case = Case(
        older if flags else None,
        lambda folder: (*words, folder, *flags),
        read,
        (*DRAWING, f"{overhead}:parse", "seedmap.experiments.overhead.report:make_figures"),
        None if flags else "holds another measurement",
    )
    name = " ".join(["overhead", *flags])
    _survives(name, case, tmp_path, capsys)


# Plans


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_a_plan_stopped_anywhere(flags, tmp_path, capsys, monkeypatch):
    def plan_elsewhere(argv, target, on_program):
        return small_plan(seeds=6 if "6" in argv else 5)

    monkeypatch.setattr("seedmap.experiments.plan.processes.plan_elsewhere", plan_elsewhere)
    words = ("plan", "parities", "--out")
    older = tmp_path / "older"
    if flags:
        assert seedmap(*words, older, "--seeds", "6") == 0

    def read(folder):
        read_result(Plan, folder, "plan.json", "plan")

    case = Case(
        older if flags else None,
        lambda folder: (*words, folder, *flags),
        read,
        (f"{_COMMANDS}.experiment_flags:parse",),
        None if flags else "holds another plan",
    )
    _survives(" ".join(["plan", *flags]), case, tmp_path, capsys)


# Checkpoints


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Checkpoints of two runs at two steps."""
    base = tmp_path_factory.mktemp("hub")
    rng = np.random.default_rng(0)
    for run in range(2):
        for step in (1, 2):
            tensors = {"dense.kernel": rng.normal(size=(4, 3)), "dense.bias": rng.normal(size=3)}
            tensors = {name: array.astype("float32") for name, array in tensors.items()}
            save_file(tensors, base / f"seed_{run}-step_{step}.safetensors")
    return base


@pytest.mark.slow
@pytest.mark.parametrize("how", ["", "--overwrite", "--resume"])
def test_an_import_of_checkpoints_stopped_anywhere(how, hub, study, tmp_path, capsys):
    pattern = hub / "seed_{run}-step_{step}.safetensors"
    words = ("import", "checkpoints", pattern, "--out")
    flags = [how] if how else []

    def resume(folder):
        assert seedmap(*words, folder, "--resume") == 0

    case = Case(
        study if how == "--overwrite" else None,
        lambda folder: (*words, folder, *flags),
        run_folder.read_dataset,
        (f"{_RUNS}.folder:environment",),
        None if how else "holds another run",
        resume,
    )
    _survives(" ".join(["import checkpoints", *flags]), case, tmp_path, capsys)

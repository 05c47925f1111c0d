"""Files of one run copied into another: every reader refuses a mixture of what it reads."""

import json
import shutil
from itertools import product

import h5py
import numpy as np
import pytest
import xarray as xr

import seedmap as sm
from helpers.command import seedmap
from helpers.crashes import remember_loads
from helpers.schemas import assert_of_schema
from helpers.small_runs import FITTING, METRICS, make_run
from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.noise.map_paths import read_map
from seedmap.experiments.runs import (
    baselines,
    fit_and_map,
    folder as run_folder,
    forecast as forecasting,
    ids,
)
from seedmap.experiments.runs.compare import read_runs
from seedmap.experiments.runs.fitted import read_fitted
from seedmap.experiments.runs.forecast import load_raw
from seedmap.experiments.tasks.base import FitConfig
from seedmap.hmm.forecasting.forecaster import Forecast
from seedmap.results import from_json

# What a file tells of: the training it is of, the fit, the map.
TELLS = {
    "config.json": ("training", "fit", "map"),
    "metrics.nc": ("training", "fit"),
    "hmm.npz": ("fit",),
    "hmm.json": ("fit",),
    "sweep.json": ("fit",),
    "stability.json": ("fit",),
    "summary.json": ("map",),
    "report.html": ("map",),
}
HMM = ("hmm.npz", "hmm.json")
FITTED = ("config.json", "metrics.nc", *HMM, "sweep.json", "stability.json")
# What a command reads, and of which of the three.
READS = {
    "load": (("config.json", "metrics.nc"), ("training",)),
    "forecast": (("config.json", "metrics.nc"), ("training",)),
    "fit": (("config.json", "metrics.nc"), ("training",)),
    "map": (FITTED, ("training", "fit")),
    "report": ((*FITTED, "summary.json"), ("training", "fit", "map")),
    "compare": ((*FITTED, "summary.json"), ("training", "fit", "map")),
    "baselines": (("config.json", "metrics.nc", "summary.json"), ("training", "map")),
    "noise": (("config.json", *HMM, "summary.json"), ("fit", "map")),
}


class Accepted(Exception):
    """Raised where the work would begin that follows on reading."""


@pytest.fixture(scope="module", autouse=True)
def read_once():
    """Every test reads copies of the same few files."""
    with pytest.MonkeyPatch.context() as patch:
        remember_loads(patch)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run, and others of another training, of another fit, and of another map."""
    base = tmp_path_factory.mktemp("runs")
    ours = make_run(base / "ours", 0, 30)
    assert seedmap("report", ours) == 0
    make_run(base / "training", 1, 30)
    for name in ("fit", "map"):
        shutil.copytree(ours, base / name)
    refit = ("--metrics", *METRICS, *FITTING, "--fit-seed", 1)
    assert seedmap("fit", base / "fit", "--overwrite", *refit) == 0
    assert seedmap("map", base / "fit") == 0
    assert seedmap("map", base / "map", "--threshold", 0.7) == 0
    for name in ("training", "fit", "map"):
        (base / name / "report.html").write_text(f"a page of another {name}")
    return base


def reading(reader, folder, other, monkeypatch):
    """Reads a folder as a command does, up to where its work begins."""

    def begin(*arguments, **options):
        raise Accepted

    monkeypatch.setattr(fit_and_map, "make_fit", begin)
    monkeypatch.setattr(fit_and_map, "analyse", begin)
    monkeypatch.setattr(baselines, "compare_baselines", begin)
    calls = {
        "load": lambda: sm.load(folder),
        "forecast": lambda: load_raw(folder),
        "fit": lambda: fit_and_map.fit_run(folder, FitConfig()),
        "map": lambda: read_fitted(folder),
        "report": lambda: fit_and_map.read_mapped(folder),
        "compare": lambda: read_runs([folder, other]),
        "baselines": lambda: baselines.baselines_run(folder),
        "noise": lambda: read_map("mine", folder),
    }
    calls[reader]()


def is_mixture(reader, replaced, source):
    """Whether what a reader reads is of two trainings, fits or maps, once a file is replaced."""
    names, kinds = READS[reader]
    differ = {"training": ("training", "fit", "map"), "fit": ("fit", "map"), "map": ("map",)}
    return any(
        len({name == replaced and kind in differ[source] for name in names if kind in TELLS[name]})
        > 1
        for kind in kinds
    )


@pytest.mark.parametrize(("source", "name"), list(product(("training", "fit", "map"), TELLS)))
def test_a_file_of_another_run_is_refused_by_all_that_read_it(
    source, name, runs, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(runs / "ours", folder)
    shutil.copy(runs / source / name, folder / name)
    for reader in READS:
        try:
            reading(reader, folder, runs / "training", monkeypatch)
            said = None
        except Accepted:
            said = None
        except UserError as error:
            said = str(error)
        assert (said is not None) == is_mixture(reader, name, source), (reader, said)
        if said is not None:
            assert "\n" not in said
            assert said.count(str(folder)) >= 2
            assert name in said
            assert "`seedmap " in said or "put the file back" in said


def test_whole_runs_are_read(runs, tmp_path, monkeypatch):
    for name in ("ours", "training", "fit", "map"):
        folder = shutil.copytree(runs / name, tmp_path / name)
        for reader in READS:
            try:
                reading(reader, folder, runs / ("fit" if name == "ours" else "ours"), monkeypatch)
            except Accepted:
                continue


def test_a_command_says_which_files_and_which_command_mends_it(runs, tmp_path, capsys):
    folder = shutil.copytree(runs / "ours", tmp_path / "run")
    shutil.copy(runs / "fit" / "hmm.npz", folder)
    capsys.readouterr()
    assert seedmap("map", folder) == 2
    assert capsys.readouterr().err == (
        f"seedmap: {folder}/hmm.npz and {folder}/hmm.json are of different fits: fit again with "
        f"`seedmap fit {folder} --overwrite`\n"
    )
    shutil.copy(runs / "ours" / "hmm.npz", folder)
    shutil.copy(runs / "map" / "summary.json", folder)
    assert seedmap("report", folder) == 2
    assert capsys.readouterr().err == (
        f"seedmap: {folder}/summary.json and {folder}/config.json are of different maps: map again "
        f"with `seedmap map {folder}`\n"
    )
    assert seedmap("map", folder) == 0  # which mends it
    assert seedmap("report", folder) == 0


def test_every_file_carries_its_id(runs):
    """Whatever reads them, a person can tell by them what belongs together."""
    folder = runs / "ours"
    config = json.loads((folder / "config.json").read_text())
    dataset = run_folder.read_dataset(folder)
    assert dataset.attrs["training_id"] == config["training_id"]
    fits = [json.loads((folder / f"{name}.json").read_text()) for name in ("hmm", "sweep")]
    fits.append(json.loads((folder / "stability.json").read_text()))
    with np.load(folder / "hmm.npz") as arrays:
        found = {str(arrays["fit_id"]), dataset.state.attrs["fit_id"], config["fit_id"]}
    assert found | {fit["fit_id"] for fit in fits} == {config["fit_id"]}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["map_id"] in (folder / "report.html").read_text()
    others = [json.loads((runs / name / "config.json").read_text()) for name in ("fit", "map")]
    assert {other["training_id"] for other in others} == {config["training_id"]}
    assert others[0]["fit_id"] != others[1]["fit_id"] == config["fit_id"]


def test_results_beside_the_map_are_of_their_schemas_and_carry_its_ids(runs, tmp_path, monkeypatch):
    """By stand-ins for the models, which take long: what is written is what this is about."""
    folder = shutil.copytree(runs / "ours", tmp_path / "run")
    rows = [
        {"name": name, "num_states": 3, "num_runs": 9, "r2": r2, "leave_one_out_r2": 0.5}
        | {"f_pvalue": np.float64(1e-9)}
        for name, r2 in (("HMM", 0.75), ("up to step 200", np.nan))
    ]
    monkeypatch.setattr(baselines, "compare_baselines", lambda *a, **k: rows)
    monkeypatch.setattr(baselines, "early_times", lambda *a: [200.0])
    monkeypatch.setattr(forecasting, "fit_forecaster", lambda *a: None)
    made = Forecast(90.0, 0.25, np.inf, 120.0, np.inf, 0.8, 5)
    monkeypatch.setattr(forecasting, "forecast", lambda *a: made)
    written = baselines.baselines_run(folder), forecasting.forecast_run(folder, 90.0)
    summary = fit_and_map.read_mapped(folder).summary
    kinds = {"baselines.json": baselines.Baselines, "forecast.json": forecasting.Forecasts}
    for (name, kind), result in zip(kinds.items(), written, strict=True):
        assert_of_schema(folder / name)
        content = json.loads((folder / name).read_text())
        assert content["map_id"] == summary.map_id is not None
        assert from_json(kind, content) == result
    for name in ("summary.json", "stability.json"):
        assert_of_schema(folder / name)
    (early,) = summary.regression.early
    assert (early.upto, early.name, early.r2) == (200, "up to step 200", None)
    dataset = run_folder.read_dataset(folder)
    assert written[1].training_id == dataset.attrs["training_id"]
    assert sorted(row.seed for row in written[1].forecasts) == sorted(map(str, dataset.seed.values))
    assert written[1].forecasts[0].median is None


def change_metrics(path, name="l2"):
    """Changes one number in place, as a person could."""
    with h5py.File(path, "r+") as file:
        values = file[name][...]
        values.flat[0] += 1
        file[name][...] = values


def change_npz(path, name):
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays[name].flat[0] += 1e-6
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("name", "change", "reader"),
    [
        ("metrics.nc", change_metrics, "load"),
        ("metrics.nc", lambda path: change_metrics(path, "state"), "map"),
        ("metrics.nc", lambda path: change_metrics(path, "step"), "fit"),
        ("hmm.npz", lambda path: change_npz(path, "means"), "map"),
        ("hmm.npz", lambda path: change_npz(path, "transition"), "noise"),
    ],
)
def test_a_number_changed_by_hand_is_noticed(name, change, reader, runs, tmp_path, monkeypatch):
    folder = shutil.copytree(runs / "ours", tmp_path / "run")
    change(folder / name)
    with pytest.raises(
        UserError, match=r"was changed after it was written: restore it, or"
    ) as told:
        reading(reader, folder, runs / "fit", monkeypatch)
    assert str(folder / name) in str(told.value)
    assert "`seedmap " in str(told.value)


def test_what_carries_no_checksum_is_read_as_it_is(runs, tmp_path):
    """As former versions wrote it."""
    folder = shutil.copytree(runs / "ours", tmp_path / "run")
    with h5py.File(folder / "metrics.nc", "r+") as file:
        del file.attrs["checksum"]
    with np.load(folder / "hmm.npz") as archive:
        arrays = {name: array for name, array in archive.items() if name != "checksum"}
    np.savez(folder / "hmm.npz", **arrays)
    change_metrics(folder / "metrics.nc")
    fit_and_map.read_mapped(folder)


def test_a_new_fit_names_no_map_until_there_is_one(runs, tmp_path, monkeypatch):
    folder = shutil.copytree(runs / "ours", tmp_path / "run")
    assert seedmap("fit", folder, "--overwrite", "--metrics", *METRICS, *FITTING) == 0
    assert ids.map_id(json.loads((folder / "config.json").read_text())) is None
    monkeypatch.setattr(forecasting, "fit_forecaster", lambda *a: None)
    made = Forecast(90.0, 0.25, np.inf, 120.0, np.inf, 0.8, 5)
    monkeypatch.setattr(forecasting, "forecast", lambda *a: made)
    assert forecasting.forecast_run(folder, 90.0).map_id is None
    assert seedmap("map", folder) == 0
    assert forecasting.forecast_run(folder, 90.0).map_id is not None


def without_ids(folder):
    """The run as a former version wrote it."""
    config = json.loads((folder / "config.json").read_text())
    files.write_json(folder / "config.json", {k: v for k, v in config.items() if "_id" not in k})
    dataset = run_folder.read_dataset(folder)
    del dataset.attrs["training_id"], dataset.state.attrs["fit_id"]
    run_folder.write_dataset(folder, dataset)


def test_a_training_of_a_former_version_is_read_and_its_fit_is_not(runs, tmp_path, monkeypatch):
    folder = shutil.copytree(runs / "ours", tmp_path / "run")
    expected = json.loads((folder / "config.json").read_text())["training_id"]
    without_ids(folder)
    xr.testing.assert_equal(*(run_folder.read_dataset(each) for each in (folder, runs / "ours")))
    assert sm.load(folder).names == sm.load(runs / "ours").names
    dataset, config = fit_and_map.read_run(folder)
    assert dataset.attrs[ids.TRAINING] == config[ids.TRAINING] == expected
    for reader in ("map", "report", "compare", "baselines", "noise"):
        with pytest.raises(UserError, match=r"has no 'fit_id'; make it anew with `seedmap fit"):
            reading(reader, folder, runs / "fit", monkeypatch)
    shutil.copy(runs / "ours" / "config.json", folder)
    with pytest.raises(UserError, match=r"metrics.nc and \S+config.json are of different train"):
        sm.load(folder)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("summary.json", lambda content: [content], "summary.json is no mapping; make it anew"),
        ("summary.json", lambda c: c | {"num_runs": "9"}, "has a 'num_runs' of another type"),
        ("stability.json", lambda content: [], "stability.json is no mapping; make it anew"),
        ("stability.json", lambda c: c | {"edges": 5}, "has a 'edges' of another type"),
        ("stability.json", lambda c: c | {"priors": [{}]}, "has no 'priors.0.prior'"),
        ("sweep.json", lambda content: 7, "is no mapping); fit again"),
        ("sweep.json", lambda c: c | {"metrics": "l2"}, "has a 'metrics' of another type"),
        ("sweep.json", lambda c: c | {"num_states": None}, "has a 'num_states' of another type"),
        (
            "sweep.json",
            lambda c: c | {"fits": [c["fits"][0] | {"aic": "low"}]},
            "has a 'fits.0.aic' of another type",
        ),
        (
            "sweep.json",
            lambda c: c | {"fits": [c["fits"][0] | {"train_run_log_likelihood": [1, "a"]}]},
            "has a 'fits.0.train_run_log_likelihood.1' of another type",
        ),
    ],
)
def test_a_field_of_another_type_is_named_with_its_file(name, change, says, runs, tmp_path, capsys):
    folder = shutil.copytree(runs / "ours", tmp_path / "run")
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(change(content)))
    capsys.readouterr()
    assert seedmap("report", folder) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert says in line

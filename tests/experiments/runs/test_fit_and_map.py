"""`seedmap fit` and `seedmap map` by either engine: what the folder says is what Python says."""

import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import seedmap as sm
from helpers.branches import BRANCH
from helpers.command import seedmap
from helpers.relaxing import relaxing_runs
from seedmap import hmm
from seedmap.experiments.report import captions
from seedmap.experiments.report.explored import explored
from seedmap.experiments.runs import engines
from seedmap.experiments.runs.fit_and_map import findings_of, read_mapped
from seedmap.experiments.runs.fitted import read_fitted
from seedmap.experiments.runs.import_metrics import import_frame
from seedmap.experiments.tasks.base import FitConfig
from seedmap.hmm.training_map import branches
from seedmap.trainer import PAPER_METRICS

NUM_RUNS, RECORDS = 24, 48
FITTING = "--states 1,3 --restarts 2 --iterations 24 --resamples 3 --fit-seed 3".split()


@pytest.fixture(scope="module", autouse=True)
def few_sizes():
    """Branches are sought at 4 and 5 states only, by the command and in Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(branches, "STATES", (4, 5))
        yield


class Reads(list):
    """Paths of the files that were read, one for each time."""

    def of(self, folder):
        paths = [Path(path) for path in self if Path(path).is_relative_to(folder)]
        return Counter(str(path.relative_to(folder)) for path in paths)


@pytest.fixture
def reads(monkeypatch):
    """Files that are read meanwhile: by Python itself, and NetCDF, by HDF5, through xarray."""
    paths, load = Reads(), xr.load_dataset
    monkeypatch.setattr(xr, "load_dataset", lambda p, **how: (paths.append(p), load(p, **how))[1])
    _listening.append(paths)
    yield paths
    _listening.clear()


def _hear(event, arguments):
    if _listening and event == "open" and isinstance(arguments[0], str):
        _listening[0].append(arguments[0])


_listening = []
sys.addaudithook(_hear)  # which stays for good


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 runs through 3 places, the last one odd, fitted and mapped by the default engine."""
    values, states = relaxing_runs(NUM_RUNS, RECORDS, 3, seed=2, odd=1)
    frames = {}
    for run in range(NUM_RUNS):
        frame = pd.DataFrame(values[run], columns=PAPER_METRICS)
        frame["step"] = 10 * np.arange(1, RECORDS + 1)
        frame["eval_accuracy"] = np.where(states[run] == 2, 0.95, 0.1)
        frames[str(run)] = frame
    path = tmp_path_factory.mktemp("runs") / "run"
    import_frame(frames, path, metrics=PAPER_METRICS, name="mine")
    assert seedmap("fit", path, *FITTING) == 0
    assert seedmap("map", path) == 0
    return path


@pytest.fixture(scope="module")
def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_the_folder_says_what_python_says(folder, summary):
    settings = {"states": (1, 3), "restarts": 2, "iterations": 24, "resamples": 3, "seed": 3}
    m = sm.fit_map(sm.load(folder), **settings)
    fitted = read_fitted(folder)
    np.testing.assert_array_equal(fitted.paths, m.paths)
    np.testing.assert_allclose(fitted.agreement, m.fit.agreement, atol=1e-6)
    assert fitted.decodings.keys() == m.fit.decodings.keys() >= {1, 3, 4}
    for size, paths in m.fit.decodings.items():
        np.testing.assert_array_equal(fitted.decodings[size], paths)
    assert summary["num_states"] == m.num_states == 3
    assert summary["odd_runs"] == [*m.odd] == ["23"]
    mapped = read_mapped(folder)
    assert tuple(mapped.summary.branches) == m.branches
    assert summary["headline"] in m.notes
    assert (summary["forking"], summary["detours"]) == (m.forking, [*m.detours])
    assert mapped.analysis.sequences.runs == tuple(str(i) for i in range(23))
    np.testing.assert_allclose(fitted.sequences.values, m.fit.sequences.values, rtol=1e-12)
    edges = [(edge["from"], edge["to"]) for edge in summary["transitions"]]
    assert edges == [(edge.source, edge.target) for edge in m.edges]


def test_the_summary_says_how_far_the_number_of_states_is_one(summary):
    assert summary["emission"] == "autoregressive"
    assert summary["scale"] == "common"
    assert summary["resolution"]["num_states"] == 3
    assert {summary["resolution"][name] for name in ("half", "double")} <= {1, 3}
    sizes = {row["num_states"]: row for row in summary["selection"]}
    assert sizes[3]["bic"] < sizes[1]["bic"]
    assert sizes[3]["agreement"] > 0.7 > sizes[3]["chance"] > 0


def test_a_command_reads_each_file_once(folder, tmp_path, reads):
    copy = shutil.copytree(folder, tmp_path / "run")
    before = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    fitted = {"metrics.nc", "config.json", "hmm.json", "hmm.npz", "sweep.json", "stability.json"}
    fitted |= {"maps.nc"}
    for words, read in [
        (("report", copy), fitted | {"summary.json"}),
        (("map", copy), fitted),
        (("fit", copy, *FITTING, "--overwrite"), {"metrics.nc", "config.json"}),
    ]:
        reads.clear()
        assert seedmap(*words) == 0
        counts = {path: n for path, n in reads.of(copy).items() if path in before}
        assert counts == dict.fromkeys(read, 1), words


def test_findings_are_those_of_the_runs_on_the_map(folder, summary):
    found = summary["findings"]
    there = relaxing_runs(NUM_RUNS, RECORDS, 3, seed=2, odd=1)[1][:23] == 2
    times = np.sort(10.0 * np.where(there.any(1), 1 + there.argmax(1), RECORDS))
    assert found["survival"]["num_runs"] == 23
    assert found["survival"]["num_converged"] == there.any(1).sum() < 23  # one is censored
    assert found["survival"]["half"] == times[11]  # the first by which at least half have
    assert found["survival"]["restricted_mean"]["value"] == pytest.approx(times.mean())
    assert found["moves_first"]["runs"] == 22
    assert found["path_or_speed"]["found"]["runs"] == 23
    assert 0.9 < found["single_threshold"]["r2"] <= 1
    again = findings_of(read_mapped(folder))
    assert again.summary.survival.half == found["survival"]["half"]
    assert list(again.curves) == ["all runs"]


def test_the_report_draws_the_map_of_the_branch_it_names(folder):
    mapped = read_mapped(folder)
    paths = mapped.fitted.decodings[5][mapped.fitted.on_the_map]
    branch = replace(BRANCH, state=2, num_states=5, maps=((5, 2),), detour=True)
    named = replace(mapped.summary, branches=[branch], headline="1 branch, 1 a detour")
    drawn = replace(mapped, summary=named).drawn
    assert drawn.heading == "Map of 5 states (chosen: 3)"
    assert drawn.detours == (2,)
    assert drawn.training_map.visits.tolist() == [(paths == k).any(1).sum() for k in range(5)]
    shown = explored(replace(mapped, summary=named))
    assert (shown.drawn, shown.num_states, shown.marks[5]) == (5, 3, {2: "detour"})
    assert named.detours_on_map == []
    assert named.detours_drawn == [2]
    said = captions.training_map(named)
    assert "Drawn with 5 states, as the branch is in no map of 3, the number that was" in said
    assert "Dashed: state 2, where runs are delayed." in said
    assert explored(mapped).drawn == 3


def test_the_sides_of_a_branch_are_compared_as_survival(folder):
    mapped = read_mapped(folder)
    visitors, skippers = tuple(map(str, range(6))), tuple(map(str, range(8, 23)))
    branch = replace(BRANCH, visitors=visitors, skippers=skippers)
    unnamed = replace(branch, named=False)
    named = replace(mapped.summary, branches=[branch, unnamed])
    found = findings_of(replace(mapped, summary=named))
    assert list(found.curves) == [
        "all runs",
        "visitors of state 2 of 4",
        "skippers of state 2 of 4",
    ]
    (row,) = found.summary.survival.branches
    there = relaxing_runs(NUM_RUNS, RECORDS, 3, seed=2, odd=1)[1] == 2
    times = 10.0 * np.where(there.any(1), 1 + there.argmax(1), RECORDS)
    members = [*range(6), *range(8, 23)]
    own = times[members], there.any(1)[members], np.arange(21) < 6
    expected = hmm.survival_by_group(*own)
    assert row.pvalue == pytest.approx(expected.pvalue)
    assert row.later == expected.later
    assert (row.visitors, row.skippers) == (6, 15)
    assert row.visitors_converged == own[1][:6].sum()
    assert row.skippers_converged == own[1][6:].sum()
    assert "The visitors of state 2 of 4 converge" in found.summary.survival.sentences[-1]
    assert f"log-rank p = {row.pvalue:.2g}" in found.summary.survival.sentences[-1]


def test_another_threshold_needs_no_other_fit(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    before = (copy / "hmm.npz").read_bytes()
    assert seedmap("map", copy, "--threshold", 0.99) == 0
    content = json.loads((copy / "summary.json").read_text())
    assert content["num_converged"] == 0
    assert content["findings"]["survival"] is None
    assert (copy / "hmm.npz").read_bytes() == before
    assert seedmap("report", copy) == 0


def test_runs_held_out_are_scored_and_have_no_part_in_the_fit(folder, tmp_path):
    out = tmp_path / "out"
    rough = ("--states", 3, "--restarts", 1, "--iterations", 4, "--resamples", 0)
    assert seedmap("fit", folder, "--out", out, *rough, "--validation-runs", "2", "5") == 0
    assert seedmap("map", out) == 0
    fitted = read_fitted(out)
    assert fitted.saved.validation_runs == ("2", "5")
    assert not {"2", "5"} & {*fitted.saved.train_runs}
    content = json.loads((out / "summary.json").read_text())
    scores = hmm.score_runs(fitted.saved.model, fitted.raw)
    expected = {name: scores[int(name)] / (RECORDS - 1) for name in ("2", "5")}
    assert content["held_out_log_likelihood"] == pytest.approx(expected)


@pytest.mark.slow
def test_a_gaussian_hmm_on_the_common_scale(folder, tmp_path):
    out = tmp_path / "out"
    gaussian = ("--emission", "gaussian", "--scale", "common", "--resamples", 0)
    assert seedmap("fit", folder, "--out", out, "--states", 3, *gaussian) == 0
    assert seedmap("map", out) == 0
    m = sm.fit_map(sm.load(folder), emission="gaussian", scale="common", states=3)
    fitted = read_fitted(out)
    np.testing.assert_array_equal(fitted.paths, m.paths)
    assert fitted.saved.z_score["per"] == "common"
    np.testing.assert_allclose(fitted.saved.scale.mean, m.fit.scale.mean)
    content = json.loads((out / "summary.json").read_text())
    assert (content["emission"], content["scale"], content["branches"]) == (
        "gaussian",
        "common",
        [],
    )
    assert content["resolution"] is None
    assert not (out / "maps.nc").exists()
    values = fitted.sequences.values
    left = values - fitted.saved.parameters.means[fitted.paths]
    before, after = left[:, :-1], left[:, 1:]
    same = (fitted.paths[:, :-1] == fitted.paths[:, 1:]) & (fitted.paths[:, 1:] >= 0)
    a, b = before[same], after[same]
    expected = (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))
    found = content["stability"]["autocorrelation"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


PUBLISHED = ("--states", "1-3", "--restarts", 2, "--iterations", 10)


@pytest.mark.slow
def test_the_published_method_by_the_command(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert seedmap("fit", folder, "--out", out, "--method", "hu2023", *PUBLISHED) == 0
    assert seedmap("map", out) == 0
    settings = {"states": (1, 2, 3), "restarts": 2, "iterations": 10}
    m = sm.fit_map(sm.load(folder), method="hu2023", **settings)
    np.testing.assert_array_equal(read_fitted(out).paths, m.paths)
    content = json.loads((out / "summary.json").read_text())
    assert content["regression"]["censoring"] == "cap"
    assert content["regression"]["r2"] == pytest.approx(m.analysis.regression.r2)
    assert (content["forking"], content["detours"]) == (m.forking, [*m.detours])
    assert {*m.notes} - {*content["notes"]} <= {*m.analysis.regression.warnings}
    assert seedmap("report", out) == 0
    for flags, words in [
        (("--method", "hu2023", "--prior", "weak"), "--prior is settled by --method hu2023"),
        (("--method", "hu2023", "--scale", "common"), "--scale is settled by"),
        (("--method", "hu2023", "--compare-methods"), "omit --method"),
        (("--method", "hu2023", "--covariance", "shared"), "full or diagonal; got 'shared'"),
    ]:
        capsys.readouterr()
        assert seedmap("fit", out, "--overwrite", *flags) == 2
        assert words in capsys.readouterr().err


@pytest.mark.slow
def test_methods_side_by_side(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    published = FitConfig(method="hu2023", states="1-3", restarts=2, iterations=10)
    beside = engines._published
    monkeypatch.setattr(engines, "_published", lambda runs, *_: beside(runs, published, None))
    assert seedmap("fit", folder, "--out", out, *FITTING, "--compare-methods") == 0
    assert seedmap("map", out) == 0
    assert seedmap("report", out) == 0
    content = json.loads((out / "summary.json").read_text())
    settings = {"states": (1, 2, 3), "restarts": 2, "iterations": 10}
    m = sm.fit_map(sm.load(folder), method="hu2023", **settings)
    theirs = content["published"]
    assert theirs["num_states"] == m.num_states
    assert theirs["r2"] == pytest.approx(m.analysis.regression.r2)
    assert (theirs["forking"], theirs["detours"]) == (m.forking, [*m.detours])
    ours = read_fitted(out)
    agreement = hmm.adjusted_rand_index(ours.paths[ours.on_the_map], m.paths[ours.on_the_map])
    assert theirs["adjusted_rand"] == pytest.approx(agreement)
    page = (out / "report.html").read_text()
    assert "The published method beside it" in page
    assert theirs["sentences"][0] in page.replace("&#x27;", "'")
    (out / "published" / "hmm.json").unlink()
    assert seedmap("map", out) == 2


def test_maps_of_another_fit_or_damaged_ones_are_refused(folder, tmp_path, capsys):
    copy = shutil.copytree(folder, tmp_path / "copy")
    with xr.open_dataset(copy / "maps.nc") as maps:
        whole = maps.load()
    assert whole.imputed.dtype == bool
    assert not whole.imputed.any()
    for maps, words in [
        (whole.assign_attrs(fit_id="another"), "are of different fits"),
        (whole.drop_vars("state"), "is not what a fit writes"),
    ]:
        maps.to_netcdf(copy / "maps.nc", engine="h5netcdf")
        assert seedmap("map", copy) == 2
        error = capsys.readouterr().err
        assert words in error
        assert f"seedmap fit {copy} --overwrite" in error
    (copy / "maps.nc").unlink()
    assert seedmap("map", copy) == 2
    assert "has no maps.nc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--emission", "autoregressive", "--prior", "weak"), "--prior belongs to"),
        (("--scale", "run", "--emission", "autoregressive"), "scale 'run' belongs to"),
        (("--scale", "run"), "scale 'run' belongs to"),
        (("--validation-share", "1.5"), "--validation-share is 1.5"),
        (("--iterations", "0"), "iterations must be at least 1"),
        (("--emission", "gaussian", "--iterations", "0"), "iterations must be at least 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(folder, flags, words, capsys):
    assert seedmap("fit", folder, "--overwrite", *flags) == 2
    assert words in capsys.readouterr().err

"""`import seedmap as sm`: from arrays, frames or a folder to a map in two calls."""

import doctest
import importlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import seedmap as sm
from helpers.branches import BRANCH
from helpers.command import seedmap
from helpers.phases import phases
from helpers.relaxing import relaxing_runs
from helpers.shapes import unchecked
from seedmap import hmm
from seedmap.experiments.report import progress
from seedmap.experiments.runs import folder as run_folder
from seedmap.hmm.io import load_hmm
from seedmap.hmm.training_map import branches

LEAST = {"restarts": 1, "iterations": 8}
QUICK = {"states": (1, 2), "restarts": 2, "iterations": 12, "covariance": "diagonal"}
QUICK_OF_TWO = QUICK | {"states": 2}


def planted(num_runs=8, seed=0):
    """Runs that pass through two levels at times of their own: values, times of the step."""
    rng = np.random.default_rng(seed)
    turns = rng.integers(8, 22, num_runs)
    level = (np.arange(30) >= turns[:, None])[..., None] * np.array([4.0, -3.0])
    return level + rng.normal(0, 0.2, (num_runs, 30, 2)), turns


@pytest.fixture(scope="module")
def mapped():
    values, turns = planted()
    return sm.fit_map(sm.from_arrays(values, convergence=turns), **QUICK)


def test_importing_takes_nothing_until_something_is_used():
    script = (
        "import sys, seedmap as sm; before = set(sys.modules); sm.Task; "
        "print(*before); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    before, after = (set(line.split()) for line in done.stdout.splitlines())
    assert not {"jax", "numpy", "xarray", "pandas", "matplotlib"} & before
    assert "jax" in after


def test_one_number_of_states_may_be_given():
    fitted = sm.fit(sm.from_arrays(planted()[0]), **QUICK_OF_TWO)
    assert (fitted.num_states, len(fitted.candidates)) == (2, 1)


def test_every_name_is_there_and_no_other():
    shown = {name for name in dir(sm) if not name.startswith("__")}
    assert shown == {*sm.__all__, "experiments", "hmm", "trainer"}
    assert sm.hmm is hmm
    assert all(getattr(sm, name) is not None for name in sm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = sm.fitt


def test_a_map_finds_the_planted_turns(mapped):
    _, turns = planted()
    assert mapped.num_states == 2
    assert mapped.paths.shape == (8, 30)
    assert (mapped.paths == (np.arange(30) >= turns[:, None])).all()  # state 0 comes first
    assert not mapped.forking
    assert [(edge.source, edge.target) for edge in mapped.edges] == [(0, 1)]
    assert repr(mapped) == "Map(2 states, 1 edges, one order of first visits, 8 runs)"
    assert mapped.plot().axes


def test_a_fit_shows_its_candidates_and_what_chose_among_them(mapped):
    fitted = mapped.fit
    assert [row["num_states"] for row in fitted.candidates] == [1, 2]
    assert fitted.criterion == "robust_bic"
    scores = [row["robust_bic"] for row in fitted.candidates]
    assert fitted.num_states == 1 + int(np.argmin(scores))
    assert len(fitted.sweep.fits) == 4
    assert repr(fitted) == "Fit(2 states of 1-2 by robust_bic, 8 runs)"


def test_bars_show_how_far_a_fit_and_a_training_are(capsys):
    values, turns = planted()
    with sm.fit_bar() as callback:
        sm.fit_map(sm.from_arrays(values, convergence=turns), callback=callback, **QUICK)
    shown = capsys.readouterr().err
    assert "fit:   0%" in shown
    assert "fit: 100%" in shown
    assert sm.training_bar is progress.training_bar


def test_the_steps_by_hand_give_the_same(mapped):
    """z-scores, split, sweep, choice, decoding and the order of states: none can be forgotten."""
    values, _ = planted()
    sequences = hmm.z_score(hmm.from_arrays(values))
    train, held_out = hmm.split_runs(8)
    config = hmm.SweepConfig(**QUICK)
    decoded = hmm.fit_and_decode(sequences, train, held_out, config)
    np.testing.assert_array_equal(mapped.paths, decoded.paths)
    np.testing.assert_array_equal(mapped.fit.parameters.means, decoded.parameters.means)


def test_new_runs_are_decoded_by_the_same_model(mapped):
    values, turns = planted(num_runs=5, seed=1)
    paths = mapped.decode(sm.from_arrays([values[0], values[1, :25], *values[2:]]))
    assert paths.dtype == np.int32
    assert (paths[1, 25:] == -1).all()
    expected = (np.arange(30) >= turns[:, None]).astype(int)
    assert (paths == expected)[np.arange(5) != 1].all()
    assert (paths[1, :25] == expected[1, :25]).all()
    with pytest.raises(sm.UserError, match=r"fitted to metric_0, metric_1; the runs .* have a, b"):
        mapped.decode(sm.from_arrays(values, metrics=["a", "b"]))


def test_selected_runs_keep_all_that_is_theirs():
    values, turns = planted()
    runs = sm.from_arrays(values, steps=np.arange(30) * 10, convergence=turns, names=[*"abcdefgh"])
    some = runs.select([3, 1])
    assert (some.names, some.metrics) == (("d", "b"), ("metric_0", "metric_1"))
    np.testing.assert_array_equal(some.convergence, turns[[3, 1]])
    np.testing.assert_array_equal(some.sequences.values, runs.sequences.values[[3, 1]])
    np.testing.assert_array_equal(some.steps[0], np.arange(30) * 10)
    assert repr(some) == "Runs(2 runs, up to 30 records of 2 metrics, 2 converged)"


def test_a_run_is_cut_where_it_diverges_and_left_out_where_nothing_is_left():
    values, turns = planted()
    values[2, 20:] = np.inf
    values[5, 1:] = np.nan
    with pytest.warns(UserWarning, match=r"left out.*5 \(1\)"):
        runs = sm.from_arrays(values, convergence=turns)
    assert runs.names == ("0", "1", "2", "3", "4", "6", "7")
    assert runs.sequences.lengths.tolist() == [30, 30, 20, 30, 30, 30, 30]
    assert runs.diverged.tolist() == [False, False, True, False, False, False, False]
    np.testing.assert_array_equal(runs.convergence, np.delete(turns, 5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": [3, 2, 1]}, "steps must be 30 rising numbers"),
        ({"convergence": [1.0]}, "convergence must be 8 numbers"),
        ({"metrics": ["a"]}, "need 2 names of metrics and 8 of runs; got 1 and 8"),
        ({"names": ["a"]}, "need 2 names of metrics and 8 of runs; got 2 and 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(sm.UserError, match=message):
        sm.from_arrays(planted()[0], **arguments)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([np.zeros((4, 2)), np.zeros((4, 1))], "the same number of metrics"),
        (np.zeros((5, 0, 2)), "none of them empty"),
        ([["a", "b"]], "values must be real numbers"),
        ({"a": 1}, "got dict"),
        (None, "got NoneType"),
        (np.zeros((3, 4, 2), complex), "they are of type complex128"),
    ],
)
def test_values_that_are_no_runs_are_refused_in_one_line(values, message):
    with pytest.raises(sm.UserError, match=message), unchecked():
        sm.from_arrays(values)


def test_names_that_come_twice_are_refused_whatever_is_left_of_the_runs():
    values, _ = planted()
    with pytest.raises(sm.UserError, match="names must be different"):
        sm.from_arrays([values[0], values[1][:1], values[2]], names=["a", "a", "b"])


def test_masked_values_are_missing():
    values, _ = planted()
    masked = np.ma.array(values, mask=np.zeros(values.shape, bool))
    masked[0, 3, 1] = np.ma.masked
    runs = sm.from_arrays(masked)
    assert np.isnan(runs.sequences.values[0, 3, 1])
    assert np.isnan(runs.sequences.values).sum() == 1


def test_runs_are_selected_by_index_or_mask_and_by_nothing_else():
    runs = sm.from_arrays(planted()[0])
    assert runs.select([True, False, True, *[False] * 5]).names == ("0", "2")
    for wrong in ([1.7], ["0"], [8], "0", [True, False]):
        with pytest.raises(sm.UserError, match="indices must be whole numbers below 8"):
            runs.select(wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"criterion": "nope"}, "criterion must be one of"),
        ({"states": "1-3"}, "states must be whole numbers"),
        ({"states": (1.5,)}, "states must be whole numbers"),
        ({"restarts": 1.5}, "restarts must be whole numbers"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"validation_runs": "0"}, "validation_runs must be names of runs"),
        ({"outcome": [np.inf] * 8}, "outcome must be 8 numbers"),
        ({"outcome": "abc"}, "outcome must be real numbers"),
    ],
)
def test_settings_are_refused_before_anything_is_fitted(settings, message, monkeypatch):
    monkeypatch.setattr(hmm, "fit_sweep", lambda *_: pytest.fail("fitted in vain"))
    with pytest.raises(sm.UserError, match=message):
        sm.fit_map(sm.from_arrays(planted()[0]), **QUICK | settings)


def test_what_is_no_runs_is_refused(mapped):
    for call in (sm.fit, sm.fit_map, mapped.decode):
        with pytest.raises(sm.UserError, match=r"must be seedmap\.Runs, not str"):
            call("runs/parities")


def test_wrong_settings_and_outcomes_are_refused():
    runs = sm.from_arrays(planted()[0])
    with pytest.raises(sm.UserError, match="validation_runs: there is no run 'x'"):
        sm.fit(runs, validation_runs=["x"])
    with pytest.raises(sm.UserError, match="validation_runs names every run"):
        sm.fit(runs, validation_runs=runs.names)
    with pytest.raises(sm.UserError, match=r"unknown setting 'state' \(did you mean states\?\)"):
        sm.fit_map(runs, state=(1, 2))
    with pytest.raises(sm.UserError, match="outcome must be 8 numbers"):
        sm.fit_map(runs, outcome=[1.0], **QUICK)


def test_a_map_without_convergence_says_so_and_takes_any_outcome():
    values, turns = planted()
    runs = sm.from_arrays(values)
    m = sm.fit_map(runs, **QUICK)
    assert any("no convergence is recorded" in note for note in m.notes)
    assert m.detours == ()
    explained = sm.fit_map(runs, outcome=turns, **QUICK)
    assert explained.analysis.regression.r2 == pytest.approx(
        1, abs=1e-6
    )  # share of time in a state


def test_a_frame_gives_the_runs_of_its_arrays():
    values, _ = planted()
    frame = pd.DataFrame(
        {
            "run": np.repeat([*"abcdefgh"], 30),
            "step": np.tile(np.arange(30), 8),
            "l1": values[..., 0].ravel(),
            "l2": values[..., 1].ravel(),
            "eval_accuracy": np.where(values[..., 0] > 2, 0.95, 0.1).ravel(),
        }
    )
    runs = sm.from_frame(frame)
    assert (runs.names, runs.metrics, runs.unit) == (tuple("abcdefgh"), ("l1", "l2"), "step")
    np.testing.assert_array_equal(runs.sequences.values, values)
    np.testing.assert_array_equal(runs.convergence, planted()[1])
    assert np.isnan(sm.from_frame(frame, threshold=0.99).convergence).all()


def test_a_dataset_gives_the_runs_of_its_arrays():
    values, turns = planted()
    accuracy = np.where(values[..., 0] > 2, 0.95, 0.1)
    names = {"l1": values[..., 0], "l2": values[..., 1], "eval_accuracy": accuracy}
    variables = {name: (("seed", "step"), array) for name, array in names.items()}
    dataset = xr.Dataset(variables, {"seed": range(8), "step": np.arange(30) * 5})
    runs = sm.from_xarray(dataset)
    assert (runs.names[:2], runs.metrics, runs.unit) == (("0", "1"), ("l1", "l2"), "step")
    np.testing.assert_array_equal(runs.sequences.values, values)
    np.testing.assert_array_equal(runs.convergence, turns * 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("facade") / "run"
    training = "--seeds 6 --epochs 20 --record-every 2 --hidden 8 --bits 6 --train-size 32"
    training += " --record l1 l2 mean_w var_w"
    fitting = "--emission gaussian --states 1-2 --restarts 2 --iterations 4 --resamples 0"
    assert seedmap("run", "parities", "--out", path, *training.split(), *fitting.split()) == 0
    return path


def test_a_folder_is_loaded_and_fitted_as_the_command_does(folder):
    runs = sm.load(str(folder))
    assert runs.names == tuple(map(str, range(6)))
    assert runs.unit == "epoch"
    dataset = run_folder.read_dataset(folder)
    for i, name in enumerate(runs.metrics):
        np.testing.assert_array_equal(runs.sequences.values[..., i], dataset[name].values)
    m = sm.fit_map(runs, emission="gaussian", states=(1, 2), restarts=2, iterations=4)
    np.testing.assert_array_equal(m.paths, dataset.state.values)
    np.testing.assert_array_equal(m.fit.parameters.means, load_hmm(folder).parameters.means)


# --- the default engine ---


@pytest.fixture(scope="module", autouse=True)
def few_sizes():
    """Branches are sought at 5 states only: more would take another program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(branches, "STATES", (5,))
        yield


@pytest.fixture(scope="module")
def common():
    """A map of 24 runs through 3 places, by the default engine."""
    values, states = relaxing_runs(24, 60, 3, seed=2)
    runs = sm.from_arrays(values, steps=np.arange(60) ** 2, convergence=(states == 2).argmax(1))
    return sm.fit_map(runs, states=(1, 3), restarts=2, resamples=3, seed=3), runs, states


def test_a_map_on_the_common_scale_is_the_default(common):
    m, runs, states = common
    assert m.num_states == 3
    assert hmm.adjusted_rand_index(m.paths, states) > 0.85
    assert m.paths.dtype == np.int32
    assert m.odd == ()
    assert repr(m.fit) == "MapFit(3 states of 1-3, 24 runs, 0 odd)"
    assert [row["num_states"] for row in m.fit.candidates] == [1, 3]
    assert m.fit.agreement.shape == m.paths.shape
    assert [(edge.source, edge.target) for edge in m.edges] == [(0, 1), (1, 2)]
    scale = m.fit.made.model.scale
    values = (runs.sequences.values - scale.mean) / scale.std
    np.testing.assert_allclose(m.fit.sequences.values, values)
    assert m.plot().axes
    assert any("unevenly spaced (11 to 107 steps)" in note for note in m.notes)


def test_any_runs_are_decoded_on_the_scale_of_the_fit(common):
    m, runs, _ = common
    np.testing.assert_array_equal(m.decode(runs), m.paths)
    np.testing.assert_array_equal(m.decode(runs.select([5])), m.paths[[5]])
    begun = sm.from_arrays([values[:9] for values in runs.sequences.values])
    assert (m.decode(begun) == m.paths[:, :9]).mean() > 0.9


def test_no_branch_is_said_with_what_would_have_been_found(common):
    m, _, _ = common
    assert not any(branch.named for branch in m.branches)
    assert (m.forking, m.detours) == (False, ())
    assert any(note.startswith("no fork found (a fork of 30 % of the runs") for note in m.notes)


def test_the_picture_shows_the_branch_that_is_named(common):
    m, _, _ = common
    size = m.num_states + 2
    visits = [(m.fit.decodings[size] == state).any(1).sum() for state in range(size)]
    state = int(np.argmin(visits))
    branch = replace(BRANCH, state=state, num_states=size, maps=((size, state),))
    m = replace(m, branches=(branch,), headline="1 branch").rename({0: "begins"})
    assert m.drawn.training_map.visits[state] == visits[state]
    heading = f"Map of {size} states (chosen: {m.num_states})"
    written = [text.get_text() for text in m.plot().axes[0].texts]
    assert heading in written
    assert sum(text.endswith("branch") and "runs" in text for text in written) >= 1
    assert not any("begins" in text for text in written)  # a name of the chosen map's state
    page = m.explore().page
    content = json.loads(page.partition(' id="content">')[2].split("<")[0])
    assert content["drawn"] == size
    (shown,) = (entry for entry in content["sizes"] if entry["size"] == size)
    assert [s["mark"] for s in shown["states"]].index("branch") == state
    assert any(edge["changes"] for edge in shown["edges"])


@pytest.mark.slow
def test_two_ends_are_a_branch_with_the_runs_that_take_it():
    planted = phases("ends", 1, num_runs=30, num_records=80)
    runs = sm.from_arrays(planted.values, steps=planted.steps, convergence=planted.convergence)
    m = sm.fit_map(runs, states=5, restarts=2, iterations=26, resamples=0)
    (branch,) = (branch for branch in m.branches if branch.named)
    takers = {runs.names[i] for i in np.flatnonzero(planted.takers)}
    smaller = {*min(branch.visitors, branch.skippers, key=len)}
    assert smaller <= takers
    assert len(takers - smaller) <= 3  # some have not gone on from the fork in time
    assert m.forking
    assert not branch.detour
    (state,) = m.drawn.branches
    assert m.drawn.training_map.visits[state] >= len(branch.visitors)


@pytest.mark.slow
def test_few_runs_fork_where_nobody_can_tell():
    m = sm.fit_map(sm.from_arrays(planted(5)[0]), states=2, restarts=1, resamples=0)
    assert m.branches == ()
    assert "forks not sought: 6 runs are needed, there are 5" in m.notes


@pytest.mark.slow
def test_runs_held_out_by_name_are_decoded_only(common):
    _, runs, _ = common
    settings = {"states": 3, "restarts": 1, "iterations": 22, "resamples": 0}
    m = sm.fit_map(runs, **settings, validation_runs=["2", "7"])
    assert m.fit.made.fitted == tuple(name for name in runs.names if name not in ("2", "7"))
    assert (m.paths >= 0).all()


def test_settings_of_gaussian_hmms_imply_them():
    runs = sm.from_arrays(planted()[0])
    assert isinstance(sm.fit_map(runs, states=2, prior="weak", **LEAST).fit, sm.Fit)
    pooled = sm.fit_map(runs, emission="gaussian", scale="common", **QUICK_OF_TWO)
    assert isinstance(pooled.fit, sm.Fit)
    train, _ = hmm.split_runs(8)
    mean = runs.sequences.values[train].mean((0, 1))
    np.testing.assert_allclose(pooled.fit.scale.mean, mean)
    np.testing.assert_array_equal(pooled.decode(runs.select([4])), pooled.paths[[4]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"emission": "student"}, "emission must be autoregressive or gaussian; got 'student'"),
        ({"scale": "log"}, "scale must be common or run; got 'log'"),
        ({"scale": "run"}, "scale 'run' belongs to emission 'gaussian'"),
        ({"emission": "autoregressive", "prior": "weak"}, "prior belongs to emission 'gaussian'"),
        ({"prior": "weak", "resamples": 3}, "resamples belongs to emission 'autoregressive'"),
        ({"states": (0,)}, "states must be different whole numbers from 1 up"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"validation_runs": ["x"]}, "there is no run 'x'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message, monkeypatch):
    monkeypatch.setattr(hmm, "make_map", lambda *_: pytest.fail("fitted in vain"))
    with pytest.raises(sm.UserError, match=message):
        sm.fit_map(sm.from_arrays(planted()[0]), **settings)


@pytest.mark.parametrize("module", ["errors", "runs", "fitting", "mapping"])
def test_examples_of_the_docstrings(module, monkeypatch):
    monkeypatch.setattr(branches, "STATES", (4,))  # the program of fewer states
    assert doctest.testmod(importlib.import_module(f"seedmap.{module}")).failed == 0

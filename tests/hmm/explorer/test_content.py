"""What goes into the interactive page is what the map says."""

import base64
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from seedmap.hmm.explorer import content as content_module
from seedmap.hmm.explorer.content import Explored, size_sentences, stays, to_content
from seedmap.hmm.explorer.embed import explorer
from seedmap.hmm.training_map.build import Edge

RNG = np.random.default_rng(0)
PATHS = np.array([[0, 0, 1, 1, 2, 2], [0, 0, 0, 2, 2, 2], [0, 1, 0, 2, -1, -1], [0, 0, 0, 0, 0, 0]])
STEPS = np.broadcast_to(10.0 * np.arange(6), PATHS.shape)
EXPLORED = Explored(
    runs=("a", "b", "c", "d"),
    steps=STEPS,
    unit="epoch",
    convergence=np.array([40.0, 30.0, np.nan, np.nan]),
    paths={1: np.minimum(PATHS, 0), 3: PATHS},
    num_states=3,
    curves={"loss": RNG.normal(size=(4, 6)), "l2": np.full((4, 5), np.nan)},
    scales={"loss": (2.0, 4.0)},
    on_the_map=np.array([0, 1, 3]),
    diverged=[2],
    edges={3: (Edge(0, 1, 0.25, 1, 1, (("l2", -1.5),)),)},
    marks={3: {1: "detour", 2: "branch"}},
    reasons={3: "stable"},
    names={1: "memorising"},
)


def unpacked(curve, num_runs):
    values = np.frombuffer(base64.b64decode(curve["values"]), "<f4")
    return values.reshape(num_runs, -1)


def size_of(content, size):
    return next(entry for entry in content["sizes"] if entry["size"] == size)


def test_stays_make_the_paths_again():
    content = to_content(EXPLORED)
    assert [run["name"] for run in content["runs"]] == ["b", "a", "c", "d"]  # soonest first
    for size, paths in EXPLORED.paths.items():
        for row, own in zip((1, 0, 2, 3), size_of(content, size)["stays"], strict=True):
            path = list(itertools.chain.from_iterable([state] * many for state, many in own))
            assert path == paths[row][paths[row] >= 0].tolist()
    assert stays(np.array([-1, -1])) == []


def test_maps_count_the_runs_that_are_on_them():
    entry = size_of(to_content(EXPLORED), 3)
    assert entry["runs"] == 3
    assert [state["runs"] for state in entry["states"]] == [3, 1, 2]
    shares = [(PATHS[[0, 1, 3]] == state).mean() for state in range(3)]
    np.testing.assert_allclose([state["share"] for state in entry["states"]], shares)
    assert {(e["from"], e["to"]): e["runs"] for e in entry["edges"]} == {
        (0, 1): 1,
        (1, 2): 1,
        (0, 2): 1,
    }
    assert entry["edges"][0]["changes"] == "l2 -1.5"
    assert [state["mark"] for state in entry["states"]] == ["", "detour", "branch"]
    assert entry["reason"] == "stable"
    assert "not measured" in size_of(to_content(EXPLORED), 1)["reason"]


def test_curves_and_what_became_of_runs_are_those_that_were_recorded():
    content = to_content(EXPLORED)
    loss, l2 = content["curves"]
    order = [1, 0, 2, 3]
    np.testing.assert_array_equal(
        unpacked(loss, 4), EXPLORED.curves["loss"][order].astype(np.float32)
    )
    assert (loss["mean"], loss["std"]) == (2.0, 4.0)
    assert np.isnan(unpacked(l2, 4)).all()
    assert content["times"] == [STEPS[0].tolist()]
    assert [run["convergence"] for run in content["runs"]] == [30.0, 40.0, None, None]
    assert [run["note"] for run in content["runs"]] == ["", "", "odd, diverged", ""]
    assert content["names"] == {"1": "memorising"}
    assert content["sampled"] is None


def test_what_is_too_much_is_sampled_and_said(monkeypatch):
    monkeypatch.setattr(content_module, "MOST_RUNS", 3)
    monkeypatch.setattr(content_module, "MOST_NUMBERS", 18)
    content = to_content(EXPLORED)
    assert [run["name"] for run in content["runs"]] == ["b", "c", "d"]
    assert size_of(content, 3)["runs"] == 3  # the map is of all
    assert unpacked(content["curves"][0], 3).shape == (3, 3)
    assert content["sampled"].startswith("3 of 4 runs are shown")
    assert content["sampled"].endswith("curves have one record in 2.")


def test_runs_with_steps_of_their_own_keep_them():
    steps = np.array(STEPS)
    steps[1] *= 2
    steps[2, 4:] = np.nan
    times = to_content(replace(EXPLORED, steps=steps))["times"]
    assert [len(row) for row in times] == [6, 6, 4, 6]
    assert times[0][1] == 20


def test_no_name_ends_the_script():
    evil = "</script><script>alert(1)</script>"
    parts = explorer(to_content(replace(EXPLORED, runs=(evil, "b", "c", "d"))))
    start = parts.runs.index('id="content">') + len('id="content">')
    text = parts.runs[start : parts.runs.index("</script>", start)]
    assert evil in [run["name"] for run in json.loads(text)["runs"]]


def test_sizes_are_said_in_words():
    class Row:
        num_states, agreement, chance, reason = 3, 0.949, 0.5925, "lowest BIC"

    assert size_sentences([Row()]) == {
        3: "Lowest BIC. Halves of the runs agree 0.95, by chance 0.59."
    }


@pytest.mark.parametrize("num_states", [1, 4])
def test_states_that_no_run_visits_have_no_place(num_states):
    path = np.zeros((3, 5), int)
    content = to_content(
        replace(
            EXPLORED,
            paths={num_states: path},
            num_states=num_states,
            steps=STEPS[:3, :5],
            runs="abc",
            convergence=np.full(3, np.nan),
            on_the_map=np.arange(3),
            curves={},
            edges={},
        )
    )
    states = content["sizes"][0]["states"]
    assert [state["x"] is None for state in states] == [False] + [True] * (num_states - 1)

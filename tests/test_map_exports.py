"""A map handed on: CSV tables, TensorBoard, W&B."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import seedmap as sm
from seedmap import map_exports

NAMES = ["a/b", "läuf", "c d", "..", "e", "f", "g", "h"]


@pytest.fixture(scope="module")
def made():
    """A map of runs that pass from one level to another, the last one shorter; and their turns."""
    rng = np.random.default_rng(0)
    turns = rng.integers(8, 22, 8)
    level = (np.arange(30) >= turns[:, None])[..., None] * np.array([4.0, -3.0])
    values = [*(level + rng.normal(0, 0.2, level.shape))]
    values[-1] = values[-1][:25]
    runs = sm.from_arrays(values, steps=np.arange(30) * 5, convergence=turns, names=NAMES)
    settings = {"states": 2, "restarts": 2, "iterations": 12, "covariance": "diagonal"}
    return sm.fit_map(runs, **settings), turns


def test_csv_tables(tmp_path, made):
    m, turns = made
    m.to_csv(tmp_path / "out")
    runs, states, edges = (
        pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in ("runs", "states", "edges")
    )
    assert runs.run.tolist() == NAMES
    assert runs.records.tolist() == [30] * 7 + [25]
    assert runs.path.tolist() == ["0 1"] * 8
    assert runs.convergence.tolist() == turns.tolist()
    assert len(states) == 7 * 30 + 25
    for name, turn in zip(NAMES, turns, strict=True):
        own = states[states.run == name]
        assert own.step.tolist() == [5 * i for i in range(len(own))]
        assert own.state.tolist() == [int(i >= turn) for i in range(len(own))]
    assert edges[["from", "to", "runs"]].to_numpy().tolist() == [[0, 1, 8]]
    assert "metric_0 +" in edges.changes[0]


def test_nothing_of_convergence_where_it_is_not_recorded(made):
    m, _ = made
    bare = SimpleNamespace(
        fit=SimpleNamespace(runs=sm.from_arrays(np.zeros((8, 30, 1)) + np.arange(30)[:, None])),
        paths=m.paths,
        odd=(),
        edges=(),
        names={},
    )
    frames = map_exports.map_frames(bare)
    assert "convergence" not in frames["runs"]
    assert list(frames["edges"].columns) == ["from", "to", "runs", "probability", "changes"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_states_come_back_from_tensorboard(tmp_path, made):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    pytest.importorskip("tensorboard", reason="tensorboard is not installed, of the extra trackers")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    m, _ = made
    m.to_tensorboard(tmp_path)
    read = sm.from_tensorboard(tmp_path, metrics=["state"])
    assert sorted(read.names) == sorted(["a_b", "läuf", "c_d", "_", *"efgh"])
    own = read.names.index("läuf")
    np.testing.assert_array_equal(read.sequences.values[own, :, 0], m.paths[1])
    np.testing.assert_array_equal(read.steps[own], np.arange(30) * 5)
    pictures = EventAccumulator(str(next(tmp_path.glob("events*"))))
    pictures.Reload()
    assert pictures.Tags()["images"] == ["training_map"]


def test_states_and_picture_for_wandb(monkeypatch, made):
    logged = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Image=lambda figure: figure.axes))
    m, _ = made
    m.to_wandb(SimpleNamespace(log=logged.append))
    *states, picture = logged
    assert [row["step"] for row in states] == [5.0 * i for i in range(30)]
    assert [row["state/a/b"] for row in states] == m.paths[0].tolist()
    assert ["state/h" in row for row in states] == [True] * 25 + [False] * 5
    assert len(picture["training map"])
    with pytest.raises(sm.UserError, match=r"what wandb\.init returned; got str"):
        m.to_wandb("project")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(sm.UserError, match="pip install wandb"):
        m.to_wandb(SimpleNamespace(log=logged.append))

"""`seedmap baselines` compares with the HMM of the run, whatever it was fitted with."""

import json

import numpy as np
import pytest

from helpers.command import seedmap
from seedmap.experiments.runs.baselines import early_times
from seedmap.experiments.runs.fitted import threshold_of
from seedmap.experiments.runs.folder import read_dataset, write_dataset

SETTINGS = (
    "--metrics l2 trace --states 1-4 --restarts 2 --iterations 8 --covariance diagonal "
    "--prior weak --criterion train_log_likelihood --fit-seed 3 --validation-runs run_02 run_11 "
    "--resamples 0"
).split()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """20 runs in three stages, converged from the third on, fitted with settings of their own."""
    folder, out = tmp_path_factory.mktemp("csv"), tmp_path_factory.mktemp("runs") / "run"
    rng = np.random.default_rng(0)
    for name in range(20):
        second = rng.integers(8, 14)
        third = second + rng.integers(8, 18)
        stage = (np.arange(40) >= second).astype(int) + (np.arange(40) >= third)
        signal = np.array([[0.0, 0, 0], [3, 0, 0], [3, 3, 0]])[stage]
        values = signal + rng.normal(size=signal.shape)
        table = np.column_stack([10 * np.arange(1, 41), values, 0.5 + 0.2 * stage])
        header = "step,l2,trace,spectral,eval_accuracy"
        path = folder / f"run_{name:02}.csv"
        np.savetxt(path, table, delimiter=",", header=header, comments="")
    threshold = ["--threshold", "0.8"]
    assert seedmap("fit", folder, "--out", out, *threshold, *SETTINGS) == 0
    dataset = read_dataset(out)
    dataset["diverged"][4] = 390  # after it converged
    write_dataset(out, dataset)
    assert seedmap("map", out) == 0
    return out


@pytest.mark.slow
def test_the_hmm_of_the_comparison_is_the_hmm_of_the_map(run):
    assert seedmap("baselines", run) == 0
    rows = json.loads((run / "baselines.json").read_text())["rows"]
    summary = json.loads((run / "summary.json").read_text())
    assert rows[0]["num_states"] == summary["num_states"] == 4  # the most: likeliest in training
    assert rows[0]["num_runs"] == summary["regression"]["num_runs"] == 19
    assert rows[0]["r2"] == summary["regression"]["r2"]
    assert rows[0]["leave_one_out_r2"] == summary["regression"]["leave_one_out_r2"]
    names = " ".join(row["name"] for row in rows)
    assert "HMM-1 (l2)" in names
    assert "spectral" not in names


def test_early_times_leave_records_before_and_runs_after():
    """Causal z-scores begin at the fifth record; a row needs runs that converge later."""
    steps = 10.0 * np.arange(1, 13)
    assert early_times(steps, np.repeat([10.0, 20, 30, 40], 2)) == []
    assert early_times(steps, np.array([10.0, 20, 60, 70, 80, 90])) == [60]
    assert early_times(steps, np.full(6, 70.0)) == []
    assert early_times(steps[:4], np.array([10.0, 40])) == []


def test_the_threshold_is_that_of_the_map_where_there_is_one():
    config = {"threshold": 0.9}
    assert threshold_of(config) == 0.9
    assert threshold_of(config | {"map": {"threshold": 0.3}}) == 0.3
    assert threshold_of(config | {"map": {"threshold": None}}) == 0.9

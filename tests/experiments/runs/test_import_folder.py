"""Runs trained elsewhere: a folder of CSV files goes the same way as a run of our own."""

import json

import numpy as np
import pytest

from helpers.command import seedmap
from seedmap.experiments.runs import folder as run_folder

FITTING = ["--states", "1-3", "--restarts", "2", "--iterations", "6", "--covariance", "diagonal"]
FITTING += ["--resamples", "2"]


def write_runs(folder, step="step", outcomes=True, lengths=(20,) * 7):
    """Seven runs that jump from one level to another, at a time of their own."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for run, length in enumerate(lengths):
        late = np.arange(length) >= 4 + run
        columns = {step: 10 * np.arange(1, length + 1)}
        for i, name in enumerate(("l1", "l2", "variance_lambda")):
            columns[name] = (i + 1) * late + 0.1 * generator.normal(size=length)
        if outcomes:
            columns["eval_accuracy"] = np.where(late, 0.99, 0.5)
            columns["train_loss"] = np.where(late, 0.1, 1.0)
        table = np.column_stack(list(columns.values()))
        header = ",".join(columns)
        np.savetxt(folder / f"run{run}.csv", table, delimiter=",", header=header, comments="")
    return folder


@pytest.mark.parametrize("step", ["step", pytest.param("epoch", marks=pytest.mark.slow)])
def test_a_folder_of_csv_files_becomes_a_run_with_a_report(tmp_path, step):
    source, out = write_runs(tmp_path / "csv", step), tmp_path / "run"
    held_out = ["run2", "run5"]
    assert seedmap("fit", source, "--out", out, "--validation-runs", *held_out, *FITTING) == 0
    sweep = json.loads((out / "sweep.json").read_text())
    assert sweep["validation_runs"] == held_out
    assert sweep["train_runs"] == [f"run{i}" for i in (0, 1, 3, 4, 6)]
    assert (sweep["num_observations_train"], sweep["num_observations_validation"]) == (100, 40)
    assert sweep["metrics"] == ["l1", "l2", "var_lambda"]
    assert len(sweep["fits"]) == 6
    assert {"num_states", "restart", "train_log_likelihood", "validation_log_likelihood"} | {
        "num_parameters",
        "aic",
        "bic",
        "iterations",
        "converged",
        "degenerate",
    } < set(sweep["fits"][0])
    assert seedmap("map", out) == 0
    assert seedmap("report", out) == 0
    summary = json.loads((out / "summary.json").read_text())
    # The first record with accuracy above 0.9 is the jump: number 4 + run, counted from 0.
    assert summary["convergence"]["values"] == [10.0 * (5 + run) for run in range(7)]
    assert summary["convergence"]["unit"] == step
    assert summary["num_states"] >= 2
    state = run_folder.read_dataset(out).state.values
    for run in range(7):
        assert state[run, 3 + run] != state[run, 4 + run]
    assert "run5" in (out / "report.html").read_text()


@pytest.mark.slow
def test_unequal_lengths_and_no_outcomes(tmp_path):
    lengths = (12, 20, 15, 20, 18, 20, 16)
    source = write_runs(tmp_path / "csv", outcomes=False, lengths=lengths)
    out = tmp_path / "run"
    assert seedmap("fit", source, "--out", out, *FITTING) == 0
    assert seedmap("map", out) == 0
    assert seedmap("report", out) == 0
    state = run_folder.read_dataset(out).state.values
    assert [(row >= 0).sum() for row in state] == list(lengths)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["num_converged"] == 0
    assert summary["regression"]["r2"] is None
    page = (out / "report.html").read_text()
    assert [
        words for words in ("never converge", "No run converged", "runs converge") if words in page
    ] == []


@pytest.mark.slow
def test_a_run_can_be_fitted_anew_elsewhere_with_other_metrics(tmp_path):
    source, out = write_runs(tmp_path / "csv"), tmp_path / "run"
    assert seedmap("fit", source, "--out", out, *FITTING) == 0
    before = (out / "sweep.json").read_bytes()
    again = tmp_path / "l2"
    assert seedmap("fit", out, "--out", again, "--metrics", "l2", *FITTING) == 0
    assert json.loads((again / "sweep.json").read_text())["metrics"] == ["l2"]
    assert (out / "sweep.json").read_bytes() == before
    assert seedmap("map", again) == 0


def test_what_is_refused_leaves_the_run_that_was_to_be_replaced(tmp_path, capsys):
    source, out = write_runs(tmp_path / "csv"), tmp_path / "run"
    assert seedmap("import", "metrics", source, "--out", out) == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    for flags in (["--metrics", "nosuch"], ["--validation-runs", "run9"], ["--states", "70"]):
        assert seedmap("fit", source, "--out", out, "--overwrite", *FITTING, *flags) == 2
        assert {path: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--out"]),
        (["--out", "run", "--validation-runs", "run9"], ["run9", "run0"]),
        (["--out", "run", "--metrics", "l3"], ["l3", "l2"]),
        (["--out", "run", "--states", "70"], ["more than the data allow"]),
    ],
)
def test_wrong_input_is_named(tmp_path, monkeypatch, capsys, flags, words):
    write_runs(tmp_path / "csv")
    monkeypatch.chdir(tmp_path)
    assert seedmap("fit", "csv", *flags) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("seedmap: ")
    for word in words:
        assert word in last

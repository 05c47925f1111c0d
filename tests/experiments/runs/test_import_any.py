"""`seedmap import PATH`: looks first, says what it takes, and a run folder keeps every name."""

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import seedmap as sm
from helpers.command import seedmap
from seedmap.experiments.commands import COMMANDS
from seedmap.experiments.runs.dataset import convergence_times, dataset_runs
from seedmap.experiments.runs.folder import read_dataset
from seedmap.hmm.readers.kinds import KINDS

NAMES = ["train/loss", "grad norm", "β.x", "50%"]


def write_logs(folder, runs=6, accuracy="val/acc", records=12):
    """Runs whose accuracy passes 0.9 at record 3 + run."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for run in range(runs):
        late = np.arange(records) >= 3 + run
        frame = {"global_step": 10 * np.arange(records)}
        frame |= {
            name: late * (i + 1) + 0.1 * rng.normal(size=records) for i, name in enumerate(NAMES)
        }
        if accuracy:
            frame[accuracy] = np.where(late, 0.95, 0.1)
        pd.DataFrame(frame).to_csv(folder / f"läuf {run}.csv", index=False)
    return folder


def refused(capsys, *words):
    assert seedmap(*words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_a_dry_run_prints_a_command_that_works(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_logs(tmp_path / "logs")
    assert seedmap("import", "logs", "--dry-run") == 0
    text = capsys.readouterr().out
    assert "logs: csv, 6 runs" in text
    for words in (
        *("läuf 0 12 0 to 110", "train/loss 6 72 metric", "val/acc 6 72", "step: global_step"),
        *("run: a file or folder each", "accuracy: val/acc"),
        "convergence: val/acc > 0.9, met by 6 of 6 runs",
    ):
        assert words in " ".join(text.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs"]
    command = shlex.split(text.splitlines()[-1])
    assert command[:3] == ["seedmap", "import", "logs"]
    assert command[command.index("--metrics") + 1 :] == NAMES
    assert seedmap(*command[1:]) == 0
    dataset = read_dataset(tmp_path / "runs" / "logs")
    assert convergence_times(dataset, 0.9).tolist() == [30, 40, 50, 60, 70, 80]


def test_a_dry_run_says_that_nothing_is_recorded_of_convergence(tmp_path, capsys):
    write_logs(tmp_path / "logs", accuracy=None)
    assert seedmap("import", tmp_path / "logs", "--dry-run") == 0
    text = capsys.readouterr().out
    assert "accuracy: none found" in text
    assert "not recorded; name what it is, such as --converged 'train/loss < 1.6'" in text
    assert "--converged" not in text.splitlines()[-1]


def test_states_that_came_with_the_runs_are_no_metric(tmp_path, capsys, monkeypatch):
    """As in the published table of PolyPythias: an unnamed index, a score, states, text."""
    monkeypatch.chdir(tmp_path)
    rows = [
        f"{i}\t{seed - 0.1 * step}\t{step // 2}\t{step}\t{seed}\t[0, 1]"
        for i, (seed, step) in enumerate((seed, step) for seed in range(5) for step in range(6))
    ]
    Path("maps.tsv").write_text("\n".join(["\tscore\tstate\tstep\tseed\tgroup", *rows]))
    assert seedmap("import", "maps.tsv", "--dry-run") == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert command[command.index("--metrics") + 1 :] == ["score"]
    assert seedmap(*command[1:]) == 0
    dataset = read_dataset(tmp_path / "runs" / "maps")
    assert dataset.seed.values.tolist() == list("01234")
    assert "state" not in dataset


def test_names_survive_into_the_run_folder_and_back(tmp_path):
    write_logs(tmp_path / "logs")
    out = tmp_path / "out"
    assert seedmap("import", tmp_path / "logs", "--out", out, "--metrics", *NAMES) == 0
    dataset = read_dataset(out)
    assert {*NAMES, "val/acc"} < {*map(str, dataset.data_vars)}
    assert dataset.seed.values.tolist() == [f"läuf {i}" for i in range(6)]
    runs = dataset_runs(dataset, NAMES, threshold=0.9)
    read = sm.read(tmp_path / "logs", metrics=NAMES)
    for one, other in zip(
        (runs.sequences.values, runs.steps, runs.convergence),
        (read.sequences.values, read.steps, read.convergence),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    assert (runs.metrics, runs.names, runs.criterion) == (read.metrics, read.names, read.criterion)
    config = json.loads((out / "config.json").read_text())
    assert config["imported_from"] == "metrics in ../logs"
    assert config["converged"] == "val/acc > 0.9"


@pytest.mark.parametrize(
    ("flags", "expected", "threshold"),
    [
        (["--converged", "train/loss > 0.5"], 30.0, 0.5),
        (["--converged", "grad norm >= 1.5"], 30.0, 1.5),
        (["--threshold", "0.05"], 0.0, 0.05),
        ([], 30.0, 0.9),
    ],
)
def test_convergence_is_kept_with_its_criterion(tmp_path, flags, expected, threshold):
    write_logs(tmp_path / "logs")
    out = tmp_path / "out"
    words = ["import", tmp_path / "logs", "--out", out, "--metrics", "β.x", *flags]
    kept = ["--columns", "train/loss=train/loss", "grad norm=grad norm"]
    assert seedmap(*words, *kept) == 0
    dataset = read_dataset(out)
    assert convergence_times(dataset, threshold)[0] == expected
    assert json.loads((out / "config.json").read_text())["threshold"] == threshold


def test_where_nothing_is_recorded_nothing_is_said_of_convergence(tmp_path):
    write_logs(tmp_path / "logs", accuracy=None)
    out = tmp_path / "out"
    assert seedmap("import", tmp_path / "logs", "--out", out, "--metrics", *NAMES) == 0
    dataset = read_dataset(out)
    assert "convergence" not in dataset
    assert "converged" not in dataset.attrs
    assert json.loads((out / "config.json").read_text())["converged"] is None
    runs = dataset_runs(dataset, NAMES, 0.9)
    assert runs.criterion is None
    assert "converged" not in repr(runs)


@pytest.mark.parametrize("runs", [1, 4])
def test_a_fit_of_too_few_runs_leaves_nothing_behind(tmp_path, capsys, runs):
    folder = tmp_path / "csv"
    folder.mkdir()
    for run in range(runs):
        (folder / f"{run}.csv").write_text(
            "step,l1\n" + "".join(f"{i},{i % 3}\n" for i in range(9))
        )
    for _ in range(2):
        line = refused(capsys, "fit", folder, "--out", tmp_path / "out")
        assert "at least 5 runs" in line
        assert [path.name for path in tmp_path.iterdir()] == ["csv"]


def test_flags_are_named_in_refusals(tmp_path, capsys):
    write_logs(tmp_path / "logs")
    logs, out = tmp_path / "logs", tmp_path / "out"
    for flags, words in (
        ([], "--out must be given"),
        (["--out", out, "--kind", "xml"], "--kind: 'xml' is none of"),
        (["--out", out, "--converged", "acc"], "--converged: 'acc' is no column"),
        (
            ["--out", out, "--converged", "acc > 1", "--metrics", "β.x"],
            "--converged: no run has a column 'acc'",
        ),
        (["--out", out, "--every", "-1", "--metrics", "β.x"], "--every is -1.0; it must"),
        (["--out", out, "--threshold", "1.5"], "--threshold is 1.5"),
    ):
        assert words in refused(capsys, "import", logs, *flags)
    pattern = "ckpt/{run}/{step}"
    assert "import checkpoints" in refused(capsys, "import", pattern, "--out", out)
    assert not out.exists()


def test_help_lists_the_kinds(capsys):
    assert seedmap("import", "--help") == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in KINDS)
    assert COMMANDS["import"].arguments == "PATH"


def test_a_folder_of_a_kinds_name_is_given_as_a_path(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_logs(tmp_path / "metrics")
    assert seedmap("import", "./metrics", "--dry-run") == 0
    assert "import ./metrics --out runs/metrics" in capsys.readouterr().out

"""Metrics recorded elsewhere: the same numbers by every format, and one clear line otherwise."""

import json
import re
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from helpers.command import seedmap
from seedmap.experiments.runs.folder import read_dataset
from seedmap.experiments.runs.import_metrics import import_frame, import_metrics
from seedmap.hmm import from_pandas, read_metrics
from seedmap.metric_names import PAPER_METRICS

RUNS, EPOCHS = ("seed2", "seed10"), (0, 10, 20)
MATRIX = {  # the released code's name of a metric of a matrix -> ours
    **{name: name for name in ("l1", "l2", "code_sparsity", "trace", "spectral")},
    "computational_sparsity": "computational_sparsity",
    "mean_singular_value": "mean_lambda",
    "var_singular_value": "var_lambda",
}
OUTCOMES = ("train_loss", "eval_loss", "train_accuracy", "eval_accuracy")
THEIRS = {"l2": "weight_norm", "eval_accuracy": "val acc", "epoch": "ep"}


def checkpoint(matrices, overall, outcomes, kind="mlp"):
    """A file of the released code."""
    if kind == "transformer":  # two heads, then two matrices
        groups = {"q": [{"0": matrices[:2]}], "ffn_in": [{"0": matrices[2]}]}
        groups |= {"ffn_out": [{"0": matrices[3]}]}
    elif kind == "cnn":
        groups = {"w": matrices}
    else:
        groups = {"w": [{str(i): matrix} for i, matrix in enumerate(matrices)]}
    content = groups | {
        f"{letter}_all": dict(zip(("mean", "median", "var"), numbers, strict=True))
        for letter, numbers in zip("wb", overall, strict=True)
    }
    values = dict(zip(OUTCOMES, outcomes, strict=True))
    for name in OUTCOMES[2:]:
        values[name] = {"accuracy": values[name]}
    return content | values


def rows_of(kind="mlp"):
    """Content of the released code's file, and our row, by run and epoch."""
    rng = np.random.default_rng(0)
    files, rows = {}, {}
    for run in RUNS:
        for epoch in EPOCHS:
            matrices = [
                dict(zip(MATRIX, rng.normal(size=len(MATRIX)).tolist(), strict=True))
                | {"singular_values": [3.0, 1.0]}
                for _ in range(4)
            ]
            overall, outcomes = rng.normal(size=(2, 3)).tolist(), rng.random(4).tolist()
            row = {"epoch": epoch} | {
                ours: float(np.mean([matrix[name] for matrix in matrices]))
                for name, ours in MATRIX.items()
            }
            for letter, numbers in zip("wb", overall, strict=True):
                names = [f"{what}_{letter}" for what in ("mean", "median", "var")]
                row |= dict(zip(names, numbers, strict=True))
            rows[run, epoch] = row | dict(zip(OUTCOMES, outcomes, strict=True))
            files[run, epoch] = checkpoint(matrices, overall, outcomes, kind)
    return files, rows


def frame(rows):
    return pd.DataFrame([{"seed": run} | row for (run, _), row in rows.items()])


def write_released(folder, files, name="epoch{epoch}.json"):
    for (run, epoch), content in files.items():
        (folder / run).mkdir(parents=True, exist_ok=True)
        (folder / run / name.format(epoch=epoch)).write_text(json.dumps(content))
        (folder / run / "model.pt").write_bytes(b"not read")
    return folder


def write_csv_folder(folder, table):
    folder.mkdir()
    for run, part in table.groupby("seed"):
        part.drop(columns="seed").sample(frac=1, random_state=0).to_csv(folder / f"{run}.csv")
    return folder


def write_json_lines_folder(folder, table):
    folder.mkdir()
    for run, part in table.groupby("seed"):
        lines = part.drop(columns="seed").to_dict("records")
        text = "\n".join(json.dumps(line) for line in lines)
        (folder / f"{run}.jsonl").write_text(text + "\n\n")
    return folder


def long_csv(path, table):
    table.to_csv(path, index=False)
    return path


def long_json_lines(path, table):
    path.write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")))
    return path


@pytest.fixture(scope="module")
def truth():
    """The dataset that every format must give, built by hand."""
    _, rows = rows_of()
    values = {
        name: [[rows[run, epoch][name] for epoch in EPOCHS] for run in RUNS]
        for name in (*PAPER_METRICS, *OUTCOMES)
    }
    coordinates = {"seed": list(RUNS), "step": np.array(EPOCHS, float)}
    coordinates["epoch"] = ("step", np.array(EPOCHS, float))
    above = [[epoch for epoch in EPOCHS if rows[run, epoch]["eval_accuracy"] > 0.9] for run in RUNS]
    return xr.Dataset(
        {name: (("seed", "step"), array) for name, array in values.items()}
        | {"diverged": ("seed", np.array([-1.0, -1.0]))}
        | {"convergence": ("seed", np.array([(times or [np.nan])[0] for times in above], float))},
        coordinates,
    )


def same(dataset, truth):
    xr.testing.assert_equal(dataset, truth)


@pytest.mark.parametrize("kind", ["mlp", "transformer", "cnn"])
def test_json_files_of_the_released_code(tmp_path, truth, kind):
    source = write_released(tmp_path / "runs", rows_of(kind)[0])
    assert seedmap("import", "metrics", source, "--out", tmp_path / "out") == 0
    same(read_dataset(tmp_path / "out"), truth)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_csv_folder, "csv"),
        (write_json_lines_folder, "lines"),
        (long_csv, "all.csv"),
        (long_json_lines, "all.jsonl"),
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_the_same_numbers_by_every_format(tmp_path, truth, write, name, mapped):
    table = frame(rows_of()[1])
    flags = []
    if mapped:
        table = table.rename(columns=THEIRS)
        flags = ["--columns", *(f"{ours}={theirs}" for ours, theirs in THEIRS.items())]
    source = write(tmp_path / name, table)
    assert seedmap("import", "metrics", source, "--out", tmp_path / "out", *flags) == 0
    same(read_dataset(tmp_path / "out"), truth)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["experiment"] == source.stem
    assert config["threshold"] == 0.9


def test_frames_give_the_same(tmp_path, truth):
    table = frame(rows_of()[1])
    import_frame(table, tmp_path / "long")
    parts = {run: part.drop(columns="seed") for run, part in table.groupby("seed", sort=False)}
    import_frame(parts, tmp_path / "parts", threshold=0.5, name="mine")
    theirs = table.rename(columns=THEIRS | {"seed": "which"})
    import_frame(theirs, tmp_path / "mapped", run="which", columns=THEIRS)
    same(read_dataset(tmp_path / "parts").drop_vars("convergence"), truth.drop_vars("convergence"))
    for name in ("long", "mapped"):
        same(read_dataset(tmp_path / name), truth)
    config = json.loads((tmp_path / "parts" / "config.json").read_text())
    assert (config["experiment"], config["threshold"]) == ("mine", 0.5)


def test_csv_files_of_the_released_code(tmp_path, truth):
    """With its index, its names, and its file names; counted in what it calls steps."""
    table = frame(rows_of()[1]).rename(columns={"var_lambda": "variance_lambda", "epoch": "step"})
    (tmp_path / "csv").mkdir()
    for run, part in table.groupby("seed"):
        name = f"lr0.001_adamw_{run}_scaling1.0.csv"
        part.drop(columns="seed").reset_index(drop=True).to_csv(tmp_path / "csv" / name)
    import_metrics(tmp_path / "csv", tmp_path / "out")
    dataset = read_dataset(tmp_path / "out")
    assert dataset.seed.values.tolist() == [f"lr0.001_adamw_{run}_scaling1.0" for run in RUNS]
    assert "epoch" not in dataset.coords
    for name in (*PAPER_METRICS, *OUTCOMES):
        np.testing.assert_array_equal(dataset[name], truth[name])


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("epoch{epoch}.json", "epoch"),
        ("step{epoch}.json", "step"),
        ("stats_step{epoch}", "step"),
        ("stats_{epoch}_losses", "step"),
        ("stats_{epoch}_losses.json", "step"),
    ],
)
def test_time_is_read_from_the_names_of_files(tmp_path, name, unit):
    table = read_metrics(write_released(tmp_path, rows_of()[0], name))
    assert (table.step_name, table.sequences.runs) == (unit, RUNS)
    np.testing.assert_array_equal(table.steps, [EPOCHS, EPOCHS])


@pytest.mark.parametrize(
    "name", ["stats_{seed}_{time}.json", "stats_{time}epoch_1lr_sgd_{seed}seed"]
)
def test_files_that_name_their_seed_may_lie_together(tmp_path, name):
    files, rows = rows_of()
    for (run, epoch), content in files.items():
        path = tmp_path / name.format(seed=run.removeprefix("seed"), time=epoch)
        path.write_text(json.dumps(content))
    table = read_metrics(tmp_path)
    assert table.sequences.runs == RUNS
    expected = [[rows[run, epoch]["l2"] for epoch in EPOCHS] for run in RUNS]
    column = table.sequences.metrics.index("l2")
    np.testing.assert_array_equal(table.sequences.values[:, :, column], expected)


def test_single_singular_values_and_matrices_that_broke(tmp_path):
    files, _ = rows_of()
    first = files[RUNS[0], 10]["w"]
    first[0]["0"]["var_singular_value"] = float("nan")  # a matrix with one singular value
    kept = [matrix[str(i)]["var_singular_value"] for i, matrix in enumerate(first)][1:]
    files[RUNS[1], 20]["w"][2]["2"] = None  # as the released code writes what is not finite
    table = read_metrics(write_released(tmp_path, files))
    column = table.sequences.metrics.index("var_lambda")
    assert table.sequences.values[0, 1, column] == np.mean(kept)
    assert table.sequences.lengths.tolist() == [3, 2]
    assert table.cut == {RUNS[1]: 20.0}


def test_run_and_step_columns_by_name(tmp_path):
    table = pd.DataFrame({"run": [9, 9, 9, 9], "id": ["a", "b", "a", "b"], "at": [2, 2, 1, 1]})
    table["l2"] = [1.0, 2.0, 3.0, 4.0]
    table.to_csv(tmp_path / "all.csv", index=False)
    flags = ["--run-column", "id", "--step-column", "at", "--metrics", "l2"]
    out = tmp_path / "out"
    assert seedmap("import", "metrics", tmp_path / "all.csv", "--out", out, *flags) == 0
    dataset = read_dataset(out)
    assert dataset.seed.values.tolist() == ["a", "b"]
    assert dataset.step.values.tolist() == [1, 2]
    assert dataset.l2.values.tolist() == [[3, 1], [4, 2]]


def test_columns_that_the_run_folder_has_of_its_own_are_named(tmp_path):
    table = pd.DataFrame({"run": ["a", "a"], "step": [1, 2], "l2": [1.0, 2.0], "seed": [5, 5]})
    table.to_csv(tmp_path / "all.csv", index=False)
    with pytest.warns(UserWarning, match="own of the name: seed"):
        import_metrics(tmp_path / "all.csv", tmp_path / "out")
    assert read_dataset(tmp_path / "out").seed.values.tolist() == ["a"]


def test_a_warning_is_one_line_for_the_user(tmp_path, monkeypatch, capsys):
    def show(*given):  # as Python does outside pytest, which keeps warnings to itself
        sys.stderr.write(warnings.formatwarning(*given[:4]))

    monkeypatch.setattr(warnings, "showwarning", show)
    (tmp_path / "all.csv").write_text("run,step,l2\na,1,1\na,2,2\nb,1,nan\nb,2,nan\n")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert seedmap("import", "metrics", tmp_path / "all.csv", "--out", tmp_path / "out") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("seedmap: warning: runs left out")
    assert "py:" in warnings.formatwarning("other", UserWarning, "code.py", 1)


def test_missing_cells_of_json_lines_are_missing_values(tmp_path):
    lines = ['{"run": "a", "step": 1, "l2": 1.5}', '{"run": "a", "step": 2, "l2": null, "x": 1}']
    lines += ['{"run": "a", "step": 3, "l2": NaN}', '{"run": "a", "step": 4, "l2": 2.5}']
    (tmp_path / "all.jsonl").write_text("\n".join(lines))
    table = read_metrics(tmp_path / "all.jsonl")
    np.testing.assert_array_equal(table.sequences.values[0, :, 0], [1.5, 2.5])
    np.testing.assert_array_equal(table.steps, [[1, 4]])
    np.testing.assert_array_equal(table.outcomes["x"], [[np.nan, 1]])  # stands at the next record


GOOD = "run,step,l2|a,1,1|a,2,2|"
BAD = {
    "a cell of text": (
        "run,step,l2|a,1,1|a,2,hello|",
        [],
        ["all.csv", "line 3", "'l2'", "'hello'"],
    ),
    "no run": ("run,step,l2|a,1,1|,2,2|", [], ["all.csv, line 3", "'run'"]),
    "no run column": ("step,l2|1,1|2,2|", [], ["'run' or 'seed'", "'step'", "--run-column"]),
    "wrong run column": (GOOD, ["--run-column", "runs"], ["'runs'", "nearest are 'run'"]),
    "wrong step column": (GOOD, ["--step-column", "stp"], ["'stp'", "nearest: 'step'"]),
    "wrong column": (GOOD, ["--columns", "l2=l2_norm"], ["'l2_norm'", "nearest are 'l2'"]),
    "a column twice": (GOOD, ["--columns", "l1=l2", "trace=l2"], ["'l2'", "'l1'", "'trace'"]),
    "a name twice": (GOOD, ["--columns", "l1=l2", "l1=run"], ["'l1' twice"]),
    "a name that is there": (GOOD, ["--columns", "l2=step"], ["'l2' already", "other_l2=l2"]),
    "no mapping": (GOOD, ["--columns", "l2"], ["OURS=THEIRS"]),
    "unknown metric": (GOOD, ["--metrics", "l3"], ["'l3'", "nearest: 'l2'"]),
    "a step twice": (
        "run,step,l2|a,1,1|a,1,2|",
        [],
        ["all.csv, line 3", "'step' is 1 as in line 2", "'l2'"],
    ),
    "a short row": ("run,step,l2|a,1|", [], ["line 2 has 2 cells, expected 3"]),
    "no metric": ("run,step,x|a,1,1|a,2,2|", [], ["no metric of the paper", "--metrics"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_told_in_one_line(tmp_path, capsys, case):
    text, flags, words = BAD[case]
    (tmp_path / "all.csv").write_text(text.replace("|", "\n"))
    out = tmp_path / "out"
    assert seedmap("import", "metrics", tmp_path / "all.csv", "--out", out, *flags) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert all(word in line for word in words), line
    assert not out.exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.jsonl": '{"step": 1}\n[2]'}, "a.jsonl, line 2 holds a list"),
        ({"a.jsonl": '{"step": 1}\n{"step"'}, "a.jsonl, line 2 is not JSON .column 8: Exp"),
        ({"a.jsonl": "\n"}, "a.jsonl is empty"),
        ({"a.jsonl": b"\xff"}, "a.jsonl is not UTF-8"),
        ({"notes.txt": ""}, "holds no metrics: expected .* found 'notes.txt'"),
        ({"r/epoch1.json": "{"}, "epoch1.json is not JSON"),
        ({"r/epoch1.json": '{"x": 1}'}, "epoch1.json .* expected weights under w, q, .* found 'x'"),
        ({"r/epoch1.json": '{"w": []}'}, "epoch1.json: 'w_all' must hold mean, median, var"),
        ({"r/epoch1.json": '{"w": [{"l1": "x"}]}'}, "epoch1.json: a matrix's 'l1' is not a number"),
        ({"r/epoch1.json": '{"w": null}'}, "epoch1.json: 'w' must hold a list .*, found null"),
        (
            {"r/epoch1.json": '{"q": {"l1": 1}}'},
            "'q' must hold a list of layers, found {\"l1\": 1}",
        ),
        ({"r/epoch1.json": '{"w": [1.0]}'}, "a matrix in 'w' must be null or .*, found 1.0"),
        ({"r/epoch1.json": '{"w": [{"0": "x"}]}'}, "a matrix in 'w' must be .*, found \"x\""),
        ({"r/epoch1.json": '{"w": [[[]]]}'}, r"a matrix in 'w' must be .*, found \[\]"),
        ({"r/epoch1.json": "{}", "r/step2.json": "{}"}, "epoch1.json and step2.json: .* epochs or"),
    ],
)
def test_bad_folders_are_told(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as told:
        read_metrics(tmp_path)
    assert "\n" not in str(told.value)


def test_paths_and_flags_that_do_not_fit(tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text("step,l2\n1,1\n")
    (tmp_path / "a.txt").write_text("")
    for path, run, message in (
        (tmp_path / "none", None, "there is no"),
        (tmp_path / "csv", "id", "run: 'id' is for one long table"),
        (tmp_path / "a.txt", None, "none of recorder, trainer-state, .* csv, jsonl"),
    ):
        with pytest.raises(ValueError, match=message):
            read_metrics(path, run=run)
    import_frame(frame(rows_of()[1]), tmp_path / "run")
    with pytest.raises(ValueError, match="is a run folder already"):
        import_metrics(tmp_path / "run", tmp_path / "again")
    with pytest.raises(ValueError, match=re.escape("the frame has no column 'norm'")):
        from_pandas(frame(rows_of()[1]), columns={"l2": "norm"})

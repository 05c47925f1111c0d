"""Logs as other people have them: the right value for each kind of fault."""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest

from seedmap.errors import UserError
from seedmap.hmm.readers.criterion import Criterion, parse_criterion
from seedmap.hmm.readers.memory import from_pandas
from seedmap.hmm.readers.read import read_long, read_metrics

NAN = np.nan


def write(folder, **files):
    """Text files; `|` ends a line, `__` in a name is the dot."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text.replace("|", "\n"))
    return folder


def curves(folder, cadences, reached, last=6000):
    """Runs whose accuracy passes 0.9 at a step of their own, recorded every so many steps."""
    folder.mkdir()
    for run, (cadence, at) in enumerate(zip(cadences, reached, strict=True)):
        steps = np.arange(0, last + 1, cadence)
        frame = {"step": steps, "l2": np.sqrt(steps), "val_acc": np.where(steps >= at, 0.95, 0.2)}
        pd.DataFrame(frame).to_csv(folder / f"r{run}.csv", index=False)
    return folder


def test_a_row_that_is_missing_shifts_nothing(tmp_path):
    reached = [25000, 26000, 27000, 28000, 29000, 30000]  # mean 27 500, standard deviation 1 871
    folder = curves(tmp_path / "logs", [1000] * 6, reached, last=39000)
    hole = (folder / "r2.csv").read_text().splitlines()
    (folder / "r2.csv").write_text("\n".join(hole[:11] + hole[12:]))  # without step 10 000
    table = read_metrics(folder)
    assert table.convergence.tolist() == reached
    assert (table.convergence.mean(), round(table.convergence.std(ddof=1))) == (27500, 1871)
    np.testing.assert_array_equal(table.steps, [np.arange(0, 40000, 1000)] * 6)
    missing = np.isnan(table.sequences.values[:, :, 0])
    assert np.argwhere(missing).tolist() == [[2, 10]]


def test_different_cadences_are_said_and_resampled_if_asked(tmp_path):
    folder = curves(tmp_path / "logs", [100, 100, 100, 500, 500, 500], [2400] * 3 + [2500] * 3)
    with pytest.warns(UserWarning, match=r"3 every 100, 3 every 500.*up to 79%.*every 500 takes"):
        table = read_metrics(folder)
    assert table.convergence.tolist() == [2400] * 3 + [2500] * 3
    assert table.sequences.values.shape == (6, 61, 1)
    known = ~np.isnan(table.sequences.values[:, :, 0])
    assert known.sum(1).tolist() == [61] * 3 + [13] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = read_metrics(folder, interval=500)
    np.testing.assert_array_equal(table.steps, [np.arange(0, 6001, 500)] * 6)
    np.testing.assert_array_equal(table.sequences.values[:, :, 0], np.sqrt(table.steps))
    assert table.convergence.tolist() == [2500] * 6  # at the record that stands for it
    with pytest.raises(UserError, match=r"every is 0; it must be"):
        read_metrics(folder, interval=0)


def test_an_empty_last_cell_is_no_divergence(tmp_path):
    text = "step,train_loss,val_acc|10,1.0,|20,0.5,|21,,0.99|"
    other = "step,train_loss,val_acc|10,1.0,|20,nan,|21,,0.5|"
    folder = write(tmp_path / "logs", a__csv=text, b__csv=text, c__csv=other)
    with pytest.warns(UserWarning, match=r"left out.*c \(1\)"):
        table = read_metrics(folder, metrics=["train_loss"])
    assert table.cut == {"c": 20.0}  # a NaN that is written, and stays
    assert table.convergence.tolist() == [21, 21]
    assert table.sequences.values[:, :, 0].tolist() == [[1.0, 0.5]] * 2
    assert table.outcomes["val_acc"][0].tolist()[-1] == 0.99


def test_without_an_accuracy_no_convergence_is_recorded(tmp_path):
    folder = write(tmp_path / "logs", a__csv="step,l2|1,1|2,2|", b__csv="step,l2|1,1|2,3|")
    table = read_metrics(folder)
    assert table.criterion is None
    assert np.isnan(table.convergence).all()
    with pytest.raises(UserError, match=r"threshold: no run has an accuracy; .*of 'l2'"):
        read_metrics(folder, threshold=0.9)


def test_convergence_by_any_column_in_either_direction(tmp_path):
    rows = "step,l2,train loss,val/acc|1,1,3.0,0.1|2,2,1.5,0.5|3,3,1.0,0.95|"
    folder = write(tmp_path / "logs", a__csv=rows, b__csv=rows)
    for converged, expected in (
        (None, 3),
        ("train loss < 1.6", 2),
        ("val/acc>=0.5", 2),
        ("l2 <= 1", 1),
        ("train loss < 0", NAN),
    ):
        table = read_metrics(folder, converged=converged)
        np.testing.assert_array_equal(table.convergence, [expected] * 2)
    assert str(read_metrics(folder).criterion) == "val/acc > 0.9"
    assert read_metrics(folder, threshold=0.4).convergence.tolist() == [2, 2]
    named = read_metrics(folder, columns={"loss": "train loss"}, converged="loss < 1.6")
    assert named.convergence.tolist() == [2, 2]
    with pytest.raises(UserError, match=r"no run has a column 'loss'.*nearest.*'train loss'"):
        read_metrics(folder, converged="loss < 1.6")
    with pytest.raises(UserError, match="both given"):
        read_metrics(folder, converged="l2 > 1", threshold=0.5)


@pytest.mark.parametrize("text", ["", "l2", "> 3", "l2 > x", "l2 == 3", "l2 > nan", "l2 > 1 > 2 x"])
def test_what_is_no_criterion_is_refused(text):
    with pytest.raises(UserError, match=r"converged: .*is no column compared with a number"):
        parse_criterion(text)


def test_a_criterion_is_what_it_says():
    assert parse_criterion("a < b >= -1e-3") == Criterion("a < b", ">=", -1e-3)
    values = np.array([NAN, np.inf, -np.inf, 1, 2, 3])
    for compare, expected in ((">", [5]), (">=", [4, 5]), ("<", [3]), ("<=", [3, 4])):
        assert np.flatnonzero(Criterion("x", compare, 2.0).met(values)).tolist() == expected


def test_an_accuracy_in_percent_is_no_share(tmp_path):
    rows = "step,l2,val_acc|1,1,30|2,2,97|"
    folder = write(tmp_path / "logs", a__csv=rows, b__csv=rows)
    with pytest.warns(UserWarning, match=r"goes up to 97.*'val_acc > 90'"):
        assert read_metrics(folder).criterion is None
    assert read_metrics(folder, converged="val_acc > 90").convergence.tolist() == [2, 2]


def test_json_lines_with_lists_nested_values_and_lines_about_the_run(tmp_path):
    lines = [
        {"_meta": {"seed": 1, "host": "x"}},
        {"step": 1, "ends": [0, 1], "probes": {"grad_norm": 1.0, "deep": {"x": 7}}, "l2": 2.0},
        {"step": 2, "ends": [], "probes": {"grad_norm": 3.0}, "l2": float("nan")},
        {"step": 3, "l2": 4.0},
        {"_summary": {"best": 1}},
    ]
    folder = tmp_path / "logs"
    folder.mkdir()
    for run in "ab":
        text = "\n".join(map(json.dumps, lines))
        (folder / f"{run}.jsonl").write_text(text)
    with pytest.warns(UserWarning, match=r"left out for want of a 'step': line 1, 5"):
        table = read_metrics(folder)
    assert table.sequences.values[0, :, 0].tolist() == [2, 4]
    np.testing.assert_array_equal(table.outcomes["probes.grad_norm"][0], [1, 3])
    np.testing.assert_array_equal(table.outcomes["probes.deep.x"][0], [7, NAN])
    assert set(table.outcomes) == {"probes.grad_norm", "probes.deep.x"}


def test_rows_of_one_step_are_merged_where_they_do_not_contradict(tmp_path):
    """Lightning writes a row for training and one for validation."""
    text = "epoch,step,l2,val_acc,time|0,9,1.5,,3|0,9,,0.95,4|1,19,2.5,,5|1,19,2.5,,6|"
    folder = write(tmp_path / "logs", a__csv=text, b__csv=text)
    table = read_metrics(folder)
    assert table.sequences.values[0, :, 0].tolist() == [1.5, 2.5]
    assert table.outcomes["time"][0].tolist() == [4, 6]  # a clock: the later
    assert table.convergence.tolist() == [9, 9]
    write(folder, b__csv=text.replace("19,2.5,,6", "19,2.6,,6"))
    with pytest.raises(UserError, match=r"b\.csv, line 5: 'step' is 19 as in line 4.*'l2'"):
        read_metrics(folder)


@pytest.mark.parametrize(
    "name",
    [
        *("Step", "_step", "global_step", "iteration", "iter", "time/total_timesteps"),
        *("trainer/global_step", "Epoch", ""),
    ],
)
def test_the_step_column_under_other_names(tmp_path, name):
    text = f"{name},l2|0,1|5,2|"
    table = read_metrics(write(tmp_path / "logs", a__csv=text, b__csv=text))
    assert table.steps.tolist() == [[0, 5]] * 2
    assert table.step_name == (name or "step")


def test_an_index_over_all_runs_is_no_step():
    frame = pd.DataFrame({"run": ["a", "a", "b", "b"], "l2": [1.0, 2, 3, 4]})
    with pytest.raises(UserError, match="has no column 'step' or 'epoch' but 'l2'"):
        from_pandas(frame)


def test_a_file_of_one_run_asks_for_several(tmp_path):
    folder = write(tmp_path / "logs", a__csv="step,l2|1,1|2,2|")
    with pytest.raises(UserError, match=r"is of one run.*put a file of each in a folder"):
        read_metrics(folder / "a.csv")


@pytest.mark.parametrize("before", ['#{"t_start": 1.0}|', "# a|# b, c|", ""])
def test_comments_before_the_header_are_passed_over(tmp_path, before):
    text = f"{before}step,l2|1,1|2,2|"
    table = read_metrics(write(tmp_path / "logs", a__csv=text, b__csv=text))
    assert table.sequences.values[0, :, 0].tolist() == [1, 2]


def test_a_header_as_numpy_writes_it(tmp_path):
    (tmp_path / "logs").mkdir()
    for run in "ab":
        path = tmp_path / "logs" / f"{run}.csv"
        np.savetxt(path, [[1, 2], [3, 4]], delimiter=",", header="step,l2")
    assert read_metrics(tmp_path / "logs").steps.tolist() == [[1, 3]] * 2


def test_names_stay_as_they_are(tmp_path):
    names = ["train/loss", "val acc.top-1", "Genauigkeit β", "metrics/mAP50(B)", "50%", "a.b"]
    frame = pd.DataFrame({"step": [1, 2]} | {name: [0.1, 0.2 + i] for i, name in enumerate(names)})
    (tmp_path / "logs").mkdir()
    for run in ("run 1", "läuf.2"):
        frame.to_csv(tmp_path / "logs" / f"{run}.csv", index=False)
    table = read_metrics(tmp_path / "logs", metrics=names)
    assert table.sequences.metrics == tuple(names)
    assert table.sequences.runs == ("läuf.2", "run 1")


def test_the_order_of_the_kinds_is_told_and_can_be_chosen(tmp_path):
    folder = write(tmp_path / "logs", a__csv="step,l2|1,1|2,2|", b__csv="step,l2|1,1|2,2|")
    (folder / "c.jsonl").write_text('{"step": 1, "l2": 1}\n{"step": 2, "l2": 1}\n')
    with pytest.warns(UserWarning, match="is read as csv; it also holds jsonl: choose by kind"):
        assert read_long(folder).table.runs == ["a", "b"]
    assert read_long(folder, kind="jsonl").table.runs == ["c"]
    with pytest.raises(
        UserError, match=re.escape("kind: 'xml' is none of recorder, trainer-state, ")
    ):
        read_long(folder, kind="xml")
    with pytest.raises(UserError, match="holds no metrics: expected parquet"):
        read_long(folder, kind="parquet")

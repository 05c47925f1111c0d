import contextlib
import doctest
import os
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings, strategies as st

from seedmap import hmm
from seedmap.hmm.readers import criterion, files, memory, names
from seedmap.hmm.readers.kinds import kind
from seedmap.hmm.readers.memory import from_pandas, from_xarray
from seedmap.hmm.readers.read import read_metrics
from seedmap.metric_names import PAPER_METRICS

RELEASED = (
    "step l1 l2 trace spectral code_sparsity computational_sparsity mean_lambda variance_lambda "
    "mean_w median_w var_w mean_b median_b var_b train_loss eval_loss train_accuracy eval_accuracy"
).split()
OUTCOMES = RELEASED[-4:]


def write(folder, **files):
    """Text files NAME.csv; `|` in the text ends a line."""
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text.replace("|", "\n"), "utf-8")
    return folder


def columns(**changes):
    """Text of a good file of three rows, with the named columns changed, added or (None) gone."""
    table = {"step": "1 2 3", "l1": "1 2 4", "l2": "5 4 3", "eval_loss": "3 2 1"} | changes
    cells = [[name, *text.split(" ")] for name, text in table.items() if text is not None]
    return "|".join(",".join(row) for row in zip(*cells, strict=True)) + "|"


def assert_equal(one, other):
    a, b = one.sequences, other.sequences
    assert (a.metrics, a.runs) == (b.metrics, b.runs)
    np.testing.assert_array_equal(a.lengths, b.lengths)
    np.testing.assert_array_equal(a.values, b.values)
    np.testing.assert_array_equal(one.steps, other.steps)
    assert (one.step_name, one.cut) == (other.step_name, other.cut)
    assert one.outcomes.keys() == other.outcomes.keys()
    for name, values in one.outcomes.items():
        np.testing.assert_array_equal(values, other.outcomes[name])


def test_files_of_the_released_code(tmp_path):
    rng = np.random.default_rng(0)
    frames = {}
    for name in (f"lr0.001_adamw_seed{seed}_scaling1.0" for seed in range(3)):
        frames[name] = pd.DataFrame(rng.normal(size=(6, len(RELEASED))), columns=RELEASED)
        frames[name]["eval_accuracy"] = rng.random(6)
        frames[name]["step"] = 10 * rng.permutation(6)  # unsorted, as glob leaves them there
        frames[name].to_csv(tmp_path / f"{name}.csv")
    table = read_metrics(tmp_path)
    assert table.sequences.metrics == PAPER_METRICS
    assert table.sequences.runs == tuple(frames)
    assert list(table.outcomes) == OUTCOMES
    assert table.step_name == "step"
    assert table.cut == {}
    released_names = [{"var_lambda": "variance_lambda"}.get(name, name) for name in PAPER_METRICS]
    for i, frame in enumerate(frames.values()):
        frame = frame.sort_values("step")
        np.testing.assert_array_equal(table.sequences.values[i], frame[released_names])
        np.testing.assert_array_equal(table.steps[i], frame["step"])
        for outcome in OUTCOMES:
            np.testing.assert_array_equal(table.outcomes[outcome][i], frame[outcome])


def test_same_data_by_every_route(tmp_path):
    rng = np.random.default_rng(1)
    names = [*PAPER_METRICS, "eval_accuracy"]
    values = {name: (("seed", "step"), rng.normal(size=(11, 5))) for name in names}
    values["eval_accuracy"] = (("seed", "step"), rng.random(size=(11, 5)))
    values["l2"][1][3, 2] = np.nan  # a hole
    values["l2"][1][4, 3] = np.inf  # divergence
    coordinates = {"seed": range(11), "step": 20 * np.arange(5), "epoch": ("step", np.arange(5.0))}
    dataset = xr.Dataset(values, coordinates).assign(diverged=("seed", np.full(11, -1)))
    frame = dataset.drop_vars("diverged").to_dataframe()
    by_run = {seed: part.droplevel("seed") for seed, part in frame.groupby("seed")}
    for seed, part in by_run.items():
        part.reset_index().to_csv(tmp_path / f"{seed}.csv", index=False)
    table = from_xarray(dataset)
    assert table.sequences.runs == tuple(map(str, range(11)))  # 10 after 9, not after 1
    assert table.sequences.lengths.tolist() == [5] * 4 + [3] + [5] * 6
    assert table.cut == {"4": 60.0}
    np.testing.assert_array_equal(
        table.sequences.values[:4], np.stack([values[m][1][:4] for m in PAPER_METRICS], axis=-1)
    )
    np.testing.assert_array_equal(table.outcomes["epoch"][0], np.arange(5.0))
    assert set(table.outcomes) == {"epoch", "eval_accuracy"}
    for other in (
        from_pandas(frame),
        from_pandas(frame.reset_index()),
        from_pandas(frame.reset_index().sample(frac=1, random_state=0).sort_values("seed")),
        from_pandas(by_run),
        read_metrics(tmp_path),
        from_xarray(dataset.transpose("step", "seed")),
        from_xarray(dataset.rename(seed="run", step="t"), run_dim="run", step_dim="t"),
    ):
        if other.step_name == "t":
            other = hmm.RunTable(**(vars(other) | {"step_name": "step"}))
        assert_equal(table, other)


cells = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-1e3, 1e3),
    st.integers(-(10**6), 10**6).map(float),
)


@st.composite
def frames_of_runs(draw):
    header = ["l2", "variance_lambda", *draw(st.sets(st.sampled_from(["l1", "loss", "é,\n", "b"])))]
    frames = {}
    for run in draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=4, unique=True)):
        steps = draw(st.lists(st.integers(0, 10**9), min_size=1, max_size=6, unique=True))
        frame = pd.DataFrame({name: [draw(cells) for _ in steps] for name in header})
        frame.insert(draw(st.integers(0, len(header))), "step", steps)
        if draw(st.booleans()):
            frame["solved"] = [draw(st.booleans()) for _ in steps]
        frames[str(run)] = frame
    return frames


@pytest.mark.filterwarnings("ignore:runs left out")
@pytest.mark.filterwarnings("ignore:the runs were recorded at different steps")
@settings(max_examples=60, deadline=None, derandomize=True)
@given(frames_of_runs(), st.booleans())
def test_csv_round_trip_equals_from_pandas(tmp_path_factory, frames, index):
    folder = tmp_path_factory.mktemp("runs")
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=index)
    frames = dict(sorted(frames.items(), key=lambda item: int(item[0])))
    try:
        expected = from_pandas(frames)
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error))):
            read_metrics(folder)
        return
    assert_equal(read_metrics(folder), expected)


CELLS = ["1", "2", "", "nan", "inf", "-inf"]


def cut_by_words(rows):
    """Metric by metric: the first infinity, or the first NaN that is written and after which no
    number comes; None without one."""
    cuts = []
    for metric in zip(*rows, strict=True):
        bad = [i for i, cell in enumerate(metric) if "inf" in cell]
        numbers = [i for i, cell in enumerate(metric) if cell in ("1", "2")]
        after = max(numbers, default=-1)
        bad += [i for i, cell in enumerate(metric) if cell == "nan" and i > after]
        cuts.append(min(bad, default=len(rows)))
    return min(cuts)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(*[st.sampled_from(CELLS)] * 2), min_size=1, max_size=7))
def test_cut_is_where_the_rule_says(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("runs")
    lines = [f"{step},{one},{other}" for step, (one, other) in enumerate(rows)]
    (folder / "other.csv").write_text("\n".join(["step,l1,l2", *lines]))
    (folder / "good.csv").write_text("step,l1,l2\n" + "".join(f"{i},1,1\n" for i in range(7)))
    cut = cut_by_words(rows)
    recorded = [i for i, cells in enumerate(rows[:cut]) if {"1", "2"} & {*cells}]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if not all(any(of) for of in zip(*rows, strict=True)):  # one metric was never logged
            with contextlib.suppress(ValueError):
                assert read_metrics(folder).sequences.metrics in (("l1",), ("l2",))
            return
        table = read_metrics(folder)
    if len(recorded) < 2:
        assert any(f"other ({len(recorded)})" in str(each.message) for each in caught)
        assert table.sequences.runs == ("good",)
    else:
        last = recorded[-1] + 1
        assert table.sequences.lengths.tolist() == [7, last]
        given = [[float(cell or "nan") for cell in cells] for cells in rows[:last]]
        np.testing.assert_array_equal(table.sequences.values[1, :last], given)
    assert table.cut == ({} if cut == len(rows) else {"other": float(cut)})


def test_padding_of_steps_and_outcomes(tmp_path):
    write(
        tmp_path,
        a="epoch,l1,loss,phase|2,8,1,late|1,7,,early|",
        b="epoch,l1,seconds|5,1,9|6,inf,9|1,3,9|2,,9|4,2,9|",
    )
    table = read_metrics(tmp_path)
    nan = np.nan
    assert table.step_name == "epoch"
    assert table.sequences.lengths.tolist() == [2, 4]
    np.testing.assert_array_equal(table.sequences.values[..., 0], [[7, 8, 0, 0], [3, nan, 2, 1]])
    np.testing.assert_array_equal(table.steps, [[1, 2, nan, nan], [1, 2, 4, 5]])
    assert set(table.outcomes) == {"loss", "seconds"}
    np.testing.assert_array_equal(table.outcomes["loss"], [[nan, 1, nan, nan], [nan] * 4])
    np.testing.assert_array_equal(table.outcomes["seconds"], [[nan] * 4, [9] * 4])
    assert table.cut == {"b": 6.0}


def test_what_counts_as_a_number(tmp_path):
    text = (
        "step, l1 ,done,note,when|1, 1e-3 ,True,NA,2024-01-01|2,NaN,False,x,|| , , |3,+2.5,,None,|"
    )
    table = read_metrics(write(tmp_path, a="\ufeff" + text.replace("| , , |", "| , , , , |")))
    np.testing.assert_array_equal(table.sequences.values[0, :, 0], [1e-3, 2.5])
    np.testing.assert_array_equal(table.steps, [[1, 3]])  # where a metric was recorded
    assert list(table.outcomes) == ["done"]
    np.testing.assert_array_equal(table.outcomes["done"], [[1, 0]])  # that of step 2 at the next


def test_aliases_and_chosen_metrics(tmp_path):
    names = "step,mean_singular_value,var_singular_value,cka,epoch,eval_loss"
    write(tmp_path, a=f"{names}|1,2,3,4,.5,7|2,3,4,6,1,8|")
    table = read_metrics(tmp_path)
    assert table.sequences.metrics == ("mean_lambda", "var_lambda")
    assert list(table.outcomes) == ["cka", "epoch", "eval_loss"]
    table = read_metrics(tmp_path, metrics=["cka", "variance_lambda"])
    assert table.sequences.metrics == ("cka", "var_lambda")
    np.testing.assert_array_equal(table.sequences.values[0], [[4, 3], [6, 4]])
    assert list(table.outcomes) == ["epoch", "eval_loss"]


def test_other_files_are_no_runs(tmp_path):
    write(tmp_path, run2=columns(), run10=columns(), run1=columns())
    (tmp_path / "._run1.csv").write_bytes(b"\x00\x05\x16\x07\xff")
    (tmp_path / "notes.txt").write_text("seeds 1 to 10")
    (tmp_path / "old.csv").mkdir()
    (tmp_path / "run3.CSV").write_text(columns().replace("|", "\n"))
    assert read_metrics(tmp_path).sequences.runs == ("run1", "run2", "run3", "run10")


def test_metric_of_the_paper_that_one_file_lacks_is_named(tmp_path):
    write(tmp_path, a=columns(), b=columns(l2=None, l2_norm="5 4 3"))
    with pytest.warns(UserWarning, match=r"not in every run: .*b\.csv.* 'l2' .*: 'l2_norm'"):
        table = read_metrics(tmp_path)
    assert table.sequences.metrics == ("l1",)
    np.testing.assert_array_equal(table.outcomes["l2"], [[5, 4, 3], [np.nan] * 3])


BAD = {  # case: (text of b.csv, metrics, message after the folder's path)
    "no step": (columns(step=None, when="1 2 3"), None, "b.csv has no column 'step' or 'epoch'"),
    "lacks": (
        columns(l2=None, l_2="1 2 3"),
        ["l2"],
        "b.csv has no column 'l2' as others have (nearest: 'l_2')",
    ),
    "text in metric": (columns(l1="1 oops 3"), None, "b.csv, line 3: column 'l1' holds 'oops'"),
    "text metric": (columns(l1="x y z"), None, "b.csv, line 2: column 'l1' holds 'x'"),
    "chosen text": (columns(k="x y z"), ["k"], "b.csv, line 2: column 'k' holds 'x'"),
    "text in outcome": (columns(eval_loss="1 2 3s"), None, "b.csv, line 4: column 'eval_loss'"),
    "text step": (columns(step="a b c"), None, "b.csv, line 2: column 'step' holds 'a'"),
    "no step value": (columns(step="1 nan 3"), None, "b.csv, line 3: 'step' is nan"),
    "duplicate": (
        columns(step="7 8 7"),
        None,
        "b.csv, line 4: 'step' is 7 as in line 2, with another 'l1'; remove",
    ),
    "epoch": (columns(step=None, epoch="1 2 3"), None, "b.csv is ordered by 'epoch'"),
    "empty": ("", None, "b.csv is empty"),
    "blank": ("| |", None, "b.csv is empty"),
    "header": ("step,l1|", None, "b.csv has no rows"),
    "short": (columns() + "4,5|", None, "b.csv, line 5 has 2 cells, expected 4"),
    "long": (columns() + "4,5,6,7,8|", None, "b.csv, line 5 has 5 cells, expected 4"),
    "twice": (columns(variance_lambda="1 2 3", var_lambda="1 2 3"), None, "b.csv: columns 'var"),
    "semicolons": (columns().replace(",", ";"), None, "b.csv: columns are separated by ';'"),
    "quote": (columns() + '4,"5,6,7|', None, "b.csv, line 5 has 2 cells"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file_is_told_in_one_line(tmp_path, case):
    text, metrics, message = BAD[case]
    write(tmp_path, a=columns(), b=text)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_metrics(tmp_path, metrics=metrics)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert "; " in str(caught.value)  # what is wrong; how to mend it


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["l1", "l3"], r"metrics: no run has a column 'l3' \(nearest: 'l.'\); .*'eval_loss'"),
        (["step"], "metrics: no run has a column 'step'"),
        ([], "each named once; got none"),
        (["l1", "l1"], "each named once; got 'l1', 'l1'"),
        (["var_lambda", "variance_lambda"], "each named once"),
    ],
)
def test_bad_metrics(tmp_path, metrics, message):
    write(tmp_path, a=columns(), b=columns())
    with pytest.raises(ValueError, match=message):
        read_metrics(tmp_path, metrics=metrics)


def test_no_run_or_no_metric_left(tmp_path):
    write(tmp_path, a=columns(l1="1 inf 2"), b=columns(l2="nan nan nan"))
    with pytest.raises(ValueError, match="no run has 2 checkpoints"):
        read_metrics(tmp_path)
    (tmp_path / "b.csv").unlink()
    write(tmp_path, a=columns(l1=None, l2=None, cka="1 2 3"))
    with pytest.raises(ValueError, match=r"no metric of the paper .*'cka'; name .*columns"):
        read_metrics(tmp_path)
    write(tmp_path, b=columns())
    with pytest.raises(ValueError, match=r"in every run: .*a\.csv has no column 'l1'"):
        read_metrics(tmp_path)


def test_folders_that_hold_no_runs(tmp_path):
    with pytest.raises(ValueError, match=r"holds no metrics: expected .*csv.*; found none"):
        read_metrics(tmp_path)
    with pytest.raises(ValueError, match=r"there is no .*none; name"):
        read_metrics(tmp_path / "none")
    write(tmp_path, a=columns())
    (tmp_path / "a.CSV").write_text("step,l1\n1,2\n")
    if len(os.listdir(tmp_path)) == 2:  # else the file system does not tell case apart
        with pytest.raises(ValueError, match=r"a\.CSV and a\.csv would be one run's name; rename"):
            read_metrics(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("step,l1\n1,é\n".encode("latin-1"), "is not UTF-8 text .*; save it in UTF-8"),
        ("step".encode("utf-16"), "is not UTF-8 text"),
        (b"step,l1\n1," + b"9" * 200_000, "cannot be read as CSV .field larger.*; write it anew"),
    ],
)
def test_not_csv(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.csv {message}"):
        read_metrics(tmp_path)


def test_bad_frames_and_datasets():
    frame = pd.DataFrame({"seed": [0, 0, 1, 1], "step": [1, 2, 1, 2], "l1": [1.0, 2, 3, 4]})
    cases = [
        (lambda: from_pandas(frame, run="run"), "needs one column 'run' .* has 'seed', 'step'"),
        (
            lambda: from_pandas(frame, step="epoch"),
            "the frame has no column 'epoch' but 'step', 'l1'",
        ),
        (
            lambda: from_pandas(frame.assign(step=1)),
            "the frame, row 1: 'step' is 1 as in row 0, with another 'l1'",
        ),
        (lambda: from_pandas(frame.assign(seed=[0, 0, 1, None])), "row 3 has no 'seed'"),
        (
            lambda: from_pandas(frame.assign(l1=[1, 2, 3, "x"])),
            "the frame, row 3: column 'l1' holds",
        ),
        (lambda: from_pandas({}), "no runs"),
        (lambda: from_pandas({"a": frame[:0]}), "run a has no rows"),
        (lambda: from_pandas({"a": frame.l1.to_numpy()}), "DataFrames; got ndarray"),
        (lambda: from_pandas([frame]), "DataFrames; got list"),
        (lambda: from_xarray(frame), "takes a Dataset; got DataFrame"),
        (lambda: from_xarray(frame.to_xarray()), "no dimension 'seed' but 'index'; .* as run_dim"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_frame_columns_of_other_types_and_step_argument():
    frame = pd.DataFrame(
        {
            "run": ["b", "a", "b", "a"],
            "iteration": pd.array([2, 1, 1, 3], dtype="Int64"),
            "l1": np.array([1, 2, 3, 4], np.float32),
            "l2": pd.array([1, None, 3, 4], dtype="Float64"),
            "trace": pd.Series([1.5, None, "3", 4], dtype=object),
            "when": pd.to_datetime(["2024-01-01"] * 4),
            "kind": pd.Categorical(["x", "y", "x", "y"]),
            7: [True, False, True, True],
        }
    )
    table = from_pandas(frame, run="run", step="iteration", metrics=["l1", "l2", "trace"])
    assert table.sequences.runs == ("b", "a")
    assert table.step_name == "iteration"
    nan = np.nan
    assert table.sequences.lengths.tolist() == [2, 3]
    np.testing.assert_array_equal(table.sequences.values[0, :2], [[3, 3, 3], [1, 1, 1.5]])
    np.testing.assert_array_equal(
        table.sequences.values[1], [[2, nan, nan], [nan, nan, nan], [4, 4, 4]]
    )
    np.testing.assert_array_equal(table.steps, [[1, 2, nan], [1, 2, 3]])
    assert list(table.outcomes) == ["7"]
    np.testing.assert_array_equal(table.outcomes["7"], [[1, 1, nan], [0, nan, 1]])


@pytest.mark.parametrize("module", [criterion, files, kind, memory, names])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


def test_names_of_columns_that_are_numbers_are_read_as_text():
    frame = pd.DataFrame({0: [1, 1, 2, 2], 1: [0, 1, 0, 1], 2: [0.1, 0.2, 0.3, 0.4], "l1": 5.0})
    for run, step, metrics in ((0, 1, [2]), ("0", "1", ["2"])):
        table = from_pandas(frame, metrics, run, step)
        assert table.sequences.metrics == ("2",)
        np.testing.assert_array_equal(table.sequences.values[:, :, 0], [[0.1, 0.2], [0.3, 0.4]])
    renamed = from_pandas(frame, ["mine"], 0, 1, columns={"mine": 2})
    assert renamed.sequences.metrics == ("mine",)
    huge = frame.assign(l1=pd.Series([10**400] * 4, dtype=object))
    with pytest.raises(ValueError, match="column 'l1' holds '1000"):
        from_pandas(huge, None, 0, 1)

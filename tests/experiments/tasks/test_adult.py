"""Adult: its formats read alike, people as numbers against a plain loop, groups, messages."""

import csv
import math
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from helpers.command import seedmap
from seedmap.experiments.datasets import adult
from seedmap.experiments.datasets.adult import COLUMNS, encode, groups_of, make_people, read_adult
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.tasks.adult import CPU, MLP, QUICK, load, setup
from seedmap.trainer import make_streams

SIZES = {"adult.data": 5, "adult.test": 3}
ROW = "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male"
ROW += ", 2174, 0, 40, United-States, <=50K"


@pytest.fixture
def few(monkeypatch):
    """A table of both splits has as many rows as the official files of these tests."""
    monkeypatch.setattr(adult, "NUM_TRAIN", SIZES["adult.data"])
    monkeypatch.setattr(adult, "NUM_TEST", SIZES["adult.test"])
    above = np.sum(people(SIZES["adult.test"], 1)["income"] == adult.INCOMES[1])
    monkeypatch.setattr(adult, "TEST_ABOVE", above)


def people(size, seed=0):
    return make_people(size, seed)


def as_rows(columns):
    return [[str(value) for value in row] for row in zip(*(columns[n] for n in COLUMNS))]  # noqa: B905


def write_official(folder):
    train, test = (as_rows(people(size, i)) for i, size in enumerate(SIZES.values()))
    lines = "\n".join(", ".join(row) for row in train)
    (folder / "adult.data").write_text(lines + "\n\n")  # an empty line ends it
    lines = "".join(", ".join(row) + ".\n" for row in test)
    (folder / "adult.test").write_text("|1x3 Cross validator\n" + lines)


def write_table(path):
    """The test people first; two columns under the names of the file that is passed on."""
    names = [{"education-num": "educational-num", "sex": "gender"}.get(n, n) for n in COLUMNS]
    train, test = (as_rows(people(size, i)) for i, size in enumerate(SIZES.values()))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *test, *train])


def write_parquet(path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    train, test = (people(size, i) for i, size in enumerate(SIZES.values()))
    columns = {name: [*test[name].tolist(), *train[name].tolist()] for name in COLUMNS}
    columns["gender"] = columns.pop("sex")
    columns["workclass"] = [None if x == "?" else x for x in columns["workclass"]]
    parquet.write_table(pyarrow.table(columns), path, compression="brotli")


def check_read(path):
    for found, size, seed in zip(read_adult(path), SIZES.values(), (0, 1), strict=True):
        expected = people(size, seed)
        assert set(found) == set(COLUMNS)
        for name in COLUMNS:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_a_table_with_its_test_people_elsewhere_is_refused(tmp_path, few, monkeypatch):
    write_table(tmp_path / "adult.csv")
    monkeypatch.setattr(adult, "TEST_ABOVE", adult.TEST_ABOVE + 1)
    with pytest.raises(ValueError, match="put its rows first"):
        read_adult(tmp_path)


def test_all_formats_are_read_alike(tmp_path, few):
    write_official(tmp_path)
    check_read(tmp_path)
    for name, write in (("adult.csv", write_table), ("adult.parquet.brotli", write_parquet)):
        folder = tmp_path / name.partition(".")[2]
        folder.mkdir()
        write(folder / name)
        check_read(folder)
        check_read(folder / name)


def test_people_become_numbers_as_in_a_plain_loop():
    train, test = people(50), people(20, 1)
    test["race"][3], test["workclass"][5] = "Martian", "?"
    found = encode(train, test)
    expected = []
    for i in range(20):
        row = []
        for name in ("age", "education-num", "capital-gain", "capital-loss", "hours-per-week"):
            log = name.startswith("capital")
            values = [math.log1p(v) if log else float(v) for v in train[name]]
            mean = sum(values) / 50
            deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 50)
            mine = math.log1p(test[name][i]) if log else test[name][i]
            row.append((mine - mean) / deviation)
        for name in COLUMNS:
            if train[name].dtype.kind == "U" and name != "income":
                row += [float(test[name][i] == value) for value in sorted(set(train[name]))]
        expected.append(row)
    np.testing.assert_allclose(found.x_NxD, expected, rtol=1e-5, atol=1e-6)
    assert found.x_NxD.dtype == np.float32
    np.testing.assert_array_equal(found.label_N, test["income"] == ">50K")
    assert 0 < found.label_N.mean() < 1


def test_a_column_that_does_not_vary_becomes_0():
    train = people(10) | {"capital-gain": np.zeros(10, int)}
    assert (encode(train, train).x_NxD[:, 2] == 0).all()


def test_groups_by_sex_race_and_age():
    ages = np.array([17, 29, 30, 49, 50, 90])
    columns = people(6) | {"age": ages, "sex": np.array(["Male", "Female"] * 3)}
    columns["race"] = np.array(["White"] * 5 + ["Black"])
    found = {name: np.flatnonzero(group).tolist() for name, group in groups_of(columns).items()}
    assert found == {
        "Female": [1, 3, 5],
        "Male": [0, 2, 4],
        "Black": [5],
        "White": [0, 1, 2, 3, 4],
        "under 30": [0, 1],
        "30 to 49": [2, 3],
        "50 and over": [4, 5],
    }
    unknown = columns | {name: np.array(["?"] * 3 + ["x"] * 3) for name in ("sex", "race")}
    assert "?" not in groups_of(unknown)  # one name for two groups
    young = groups_of({name: column[:2] for name, column in columns.items()})
    assert "50 and over" not in young


def test_the_network_agrees_with_numpy():
    made = setup(QUICK)
    params = made.task.init(make_streams([0]).init[0])
    layers = [jax.tree.map(np.asarray, params["params"][f"Dense_{i}"]) for i in range(3)]
    h, label = (np.asarray(part) for part in made.task.pool.test)
    for layer in layers[:2]:
        h = np.maximum(h @ layer["kernel"] + layer["bias"], 0)
    logits = h @ layers[2]["kernel"] + layers[2]["bias"]
    found, found_label = made.task.classify(params, made.task.pool.test)
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found_label, label)
    assert all(len(group) == len(label) for group in made.groups.values())


def test_the_census_has_as_many_parameters_as_stated():
    shapes = jax.eval_shape(lambda key: MLP(64).init(key, np.zeros((1, 107))), jax.random.key(0))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    assert count == 108 * 64 + 65 * 64 + 65 * 2


def test_a_part_of_the_training_people_decides_how_people_become_numbers():
    train, test = load(replace(QUICK, train_size=50))
    assert len(train.label_N) == 50
    np.testing.assert_allclose(train.x_NxD[:, :5].mean(0), 0, atol=1e-5)
    assert train.x_NxD.shape[1] == test.x_NxD.shape[1]
    assert (np.abs(test.x_NxD[:, :5].mean(0)) > 1e-3).all()


def test_quick_preset_from_the_command_line(tmp_path, capsys):
    out = tmp_path / "run"
    flags = ["--preset", "quick", "--record", "l2", "l1"]
    assert seedmap("train", "adult", *flags, "--out", out) == 0
    dataset = run_folder.read_dataset(out)
    assert dataset.eval_accuracy[:, -1].mean() > 0.8 > dataset.eval_accuracy[:, 0].mean()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "adult.data",
            f"{ROW}\n39, State-gov\n",
            "line 2: expected 15 fields, found 2",
        ),
        ("adult.data", "", "adult.data: expected a row for every person, found none"),
        (
            "adult.data",
            f"{ROW}\n{ROW.replace('39', '39.5')}\n",
            "adult.data, line 2: expected age to be a whole number from 0, found '39.5'",
        ),
        (
            "adult.data",
            ROW.replace("<=50K", "50K"),
            "adult.data, line 1: expected income to be one of .*, found '50K'",
        ),
        ("adult.data", ROW, "adult.test: expected it beside the other file of the data set"),
        ("adult.csv", "age,race\n1,White\n", "adult.csv: expected a column workclass, found age"),
        ("adult.csv", "", "adult.csv: expected a column age, found none"),
        (
            "adult.csv",
            f"{','.join(COLUMNS)}\n{ROW}\n",
            "adult.csv: expected 48842 rows, the first 16281 the test split, found 1",
        ),
        ("adult.parquet", "PAR1", "adult.parquet: expected a Parquet table, found: "),
        ("adult.txt", "", "expected adult.data and adult.test, .* found none of them"),
    ],
)
def test_damaged_files_are_named_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        setup(replace(CPU, data_dir=str(tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "adult"}, "no Adult census without --data-dir: name a folder with adult.data"),
        ({"data_dir": "somewhere"}, "are generated, not read"),
        ({"train_size": 801}, "--train-size is 801; there are 1 to 800 people"),
        ({"data": "adult", "data_dir": "no-such-path"}, "no-such-path: .* found no such path"),
        ({"hidden": 0}, "hidden is 0"),
    ],
)
def test_wrong_settings_are_named_in_one_line(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        setup(replace(QUICK, **change))
    assert "\n" not in str(caught.value)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "adult.parquet").write_text("")
    with pytest.raises(ValueError, match=r"pip install 'seedmap\[tabular\]'"):
        read_adult(tmp_path)

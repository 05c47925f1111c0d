"""The Adult census (Becker & Kohavi 1996, UCI): who earns more than 50 000 dollars a year.

A folder holds, or the path is one of
- the official files `adult.data` (32 561 rows, train) and `adult.test` (16 281, test), without a
  header, `?` for what is not known, in the test file a dot after every label;
- `adult.parquet.brotli` or any .parquet, or `adult.csv` or any .csv with a header: both splits in
  one table, its first 16 281 rows the official test split, as in the file that is commonly passed
  on with the columns `educational-num` and `gender` (official: `education-num`, `sex`).
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedmap import limits
from seedmap.errors import UserError

NUM_TRAIN, NUM_TEST = 32_561, 16_281
TEST_ABOVE = 3846  # of the official test people, those who earn more than 50K
COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation"),
    *("relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week"),
    *("native-country", "income"),
)
OTHER_NAMES = {"educational-num": "education-num", "gender": "sex"}
WHOLE = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
LOGGED = ("capital-gain", "capital-loss")
NUMBERS = tuple(name for name in WHOLE if name != "fnlwgt")
CATEGORIES = tuple(name for name in COLUMNS if name not in (*WHOLE, "income"))
INCOMES = ("<=50K", ">50K")
AGES = {"under 30": (0, 30), "30 to 49": (30, 50), "50 and over": (50, np.inf)}
PARQUET = (".parquet", ".parquet.brotli")
SINGLE = ("BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE", "BYTE_ARRAY")  # Parquet's types
LONGEST = 100  # characters of a category

Columns = dict[str, np.ndarray]  # int64 [person] of WHOLE, text [person] of the others


class People(NamedTuple):
    """People as numbers.

    Attributes:
        x_NxD: float32 [person, feature].
        label_N: int32 [person], 1 where the income is above 50 000 dollars.
        groups: name to bool [person]; those that have a member.
    """

    x_NxD: np.ndarray
    label_N: np.ndarray
    groups: dict[str, np.ndarray]


class Rows(NamedTuple):
    """A table as text, and the line of each row in its file, for messages."""

    path: Path
    names: Sequence[str]
    lines: list[str]
    fields: list[list[str]]


def read_adult(path: Path) -> tuple[Columns, Columns]:
    """Reads training and test people from any of the formats.

    Raises:
        UserError: none of the formats is there, or a file is not what it should be.
        OSError: a file cannot be read.
    """
    table = _find_table(path)
    if table is None:
        splits = tuple(_typed(_csv(path / name, COLUMNS)) for name in ("adult.data", "adult.test"))
    else:
        columns = _typed(_parquet(table) if table.name.endswith(PARQUET) else _csv(table, None))
        _check_rows(table, len(columns["age"]))
        test, train = (slice(NUM_TEST), slice(NUM_TEST, None))
        splits = tuple({name: of[rows] for name, of in columns.items()} for rows in (train, test))
        above = int(np.sum(splits[1]["income"] == INCOMES[1]))
        if above != TEST_ABOVE:  # the rows are there in another order
            raise UserError(
                f"{table}: {above} of the first {NUM_TEST} people earn more than 50K, of the "
                f"official test split {TEST_ABOVE} do; put its rows first"
            )
    return splits


def _check_rows(table: Path, count: int) -> None:
    """Raises UserError unless a table of both splits has their rows."""
    if count != NUM_TRAIN + NUM_TEST:
        raise UserError(
            f"{table}: expected {NUM_TRAIN + NUM_TEST} rows, the first {NUM_TEST} the test split, "
            f"found {count}"
        )


def encode(train: Columns, people: Columns) -> People:
    """Encodes people as numbers, scaled and categorised by the training people.

    Whole numbers less their mean over their standard deviation, capital gain and loss as log(1 + x)
    before, since nine in ten are 0 and the largest 99 999. A column for every category that a
    training person has (? is one); a test person's other one leaves them all 0. `fnlwgt`, the
    weight of a row in the census's sample, says nothing about a person and is left out.

    Args:
        train: training people.
        people: those to encode, training or test people.
    """
    columns = []
    for name in NUMBERS:
        mine, theirs = (
            np.log1p(of[name]) if name in LOGGED else of[name].astype(float)
            for of in (people, train)
        )
        columns.append(((mine - theirs.mean()) / (theirs.std() or 1.0))[:, None])
    for name in CATEGORIES:
        columns.append(people[name][:, None] == np.unique(train[name]))
    x_NxD = np.concatenate(columns, axis=1, dtype=np.float32)
    label_N = (people["income"] == INCOMES[1]).astype(np.int32)
    return People(x_NxD, label_N, groups_of(people))


def groups_of(people: Columns) -> dict[str, np.ndarray]:
    """Returns subgroups by sex, race and age: name to bool [person], those with a member.

    People of unknown sex or race (?) are in none of these.
    """
    groups = {
        str(value): people[name] == value
        for name in ("sex", "race")
        for value in np.unique(people[name])
        if value != "?"
    }
    for name, (youngest, above) in AGES.items():
        groups[name] = (people["age"] >= youngest) & (people["age"] < above)
    return {name: group for name, group in groups.items() if group.any()}


def make_people(size: int, seed: int) -> Columns:
    """Generates people, income by age, education, hours and sex; always the same."""
    rng = np.random.default_rng(seed)
    people: Columns = {name: rng.choice(["a", "b", "c", "?"], size) for name in CATEGORIES}
    people["sex"] = rng.choice(["Female", "Male"], size, p=(1 / 3, 2 / 3))
    people["race"] = rng.choice(["Black", "Other", "White"], size, p=(0.1, 0.05, 0.85))
    people["age"] = rng.integers(17, 91, size)
    people["education-num"] = rng.integers(1, 17, size)
    people["hours-per-week"] = rng.integers(1, 100, size)
    people["fnlwgt"] = rng.integers(10_000, 1_000_000, size)
    for name in LOGGED:
        people[name] = rng.integers(1, 100_000, size) * (rng.random(size) < 0.1)
    score = people["education-num"] / 4 + people["hours-per-week"] / 25 + people["age"] / 20
    high = score + (people["sex"] == "Male") + rng.normal(0, 0.5, size) > 8
    people["income"] = np.array(INCOMES)[high.astype(int)]
    return people


def _find_table(path: Path) -> Path | None:
    """Returns the one table of both splits at a path; None for the two official files."""
    if path.is_file() and path.name.endswith((*PARQUET, ".csv")):
        return path
    if path.is_dir():
        if (path / "adult.data").is_file() or (path / "adult.test").is_file():
            return None
        for name in ("adult.parquet.brotli", "adult.parquet", "adult.csv"):
            if (path / name).is_file():
                return path / name
    actual = "no such path" if not path.exists() else "none of them"
    raise UserError(
        f"{path}: expected adult.data and adult.test, adult.parquet.brotli, adult.parquet or "
        f"adult.csv, found {actual}"
    )


def _csv(path: Path, names: Sequence[str] | None) -> Rows:
    """Reads comma-separated values; names None: those in the first line."""
    if not path.is_file():
        raise UserError(f"{path}: expected it beside the other file of the data set, found none")
    limits.check_whole(path)
    lines, fields = [], []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file, skipinitialspace=True)
            for row in reader:
                if row and not row[0].startswith("|"):  # adult.test begins with a remark
                    lines.append(f"{path}, line {reader.line_num}")
                    fields.append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: expected comma-separated text, found: {error}") from None
    if names is None and fields:
        return Rows(path, fields[0], lines[1:], fields[1:])
    return Rows(path, names or (), lines, fields)


def _parquet(path: Path) -> Rows:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{path}: needs pyarrow: pip install 'seedmap[tabular]'") from None
    try:
        wanted = _parquet_columns(path, parquet.ParquetFile(path).metadata)
        # A text that stands in many rows is kept once, as in the file.
        table = parquet.ParquetFile(path, read_dictionary=wanted).read(columns=wanted)
        columns = [_texts(path, *column) for column in zip(wanted, table.columns, strict=True)]
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: expected a Parquet table, found: {reason}") from None
    fields = [list(row) for row in zip(*columns, strict=True)]
    return Rows(path, table.column_names, [f"{path}, row {i}" for i in range(len(fields))], fields)


def _parquet_columns(path: Path, about: Any) -> list[str]:
    """Returns the names of the columns to read of a Parquet table, by its metadata.

    Raises:
        UserError: it lacks one, is not as large as the census, or holds more than it can.
    """
    limits.check_count(f"{path}, its columns,", about.num_columns, limits.MOST_COLUMNS)
    limits.check_count(f"{path}, its row groups,", about.num_row_groups)
    columns = [about.schema.column(i) for i in range(about.num_columns)]
    _check_columns(path, [column.path for column in columns])
    _check_rows(path, about.num_rows)
    wanted = [i for i, column in enumerate(columns) if _official(column.path) in COLUMNS]
    for column in (columns[i] for i in wanted):
        if column.physical_type not in SINGLE or column.max_repetition_level:
            raise UserError(f"{path}: expected {column.path} to hold numbers or text, found others")
    groups = [about.row_group(i) for i in range(about.num_row_groups)]
    size = sum(group.column(i).total_uncompressed_size for group in groups for i in wanted)
    limits.check_expanded(f"{path}: the table", size, path.stat().st_size)
    return [columns[i].path for i in wanted]


def _texts(path: Path, name: str, column: Any) -> list[str]:
    """Returns the entries of a Parquet column as text, "" where there is none."""
    texts: list[str] = []
    for chunk in column.chunks:
        coded = hasattr(chunk, "dictionary")
        entries = (chunk.dictionary if coded else chunk).to_pylist()
        words = ["" if entry is None else str(entry) for entry in entries]
        if max(map(len, words), default=0) > LONGEST:
            raise UserError(f"{path}: {name} holds {max(map(len, words))} characters in one row")
        numbers = chunk.indices.to_pylist() if coded else range(len(words))
        texts += ["" if number is None else words[number] for number in numbers]
    return texts


def _typed(rows: Rows) -> Columns:
    """Returns the columns under their official names; a missing text value is "?"."""
    _check_columns(rows.path, rows.names)
    names = list(map(_official, rows.names))
    for line, row in zip(rows.lines, rows.fields, strict=True):
        if len(row) != len(names):
            raise UserError(f"{line}: expected {len(names)} fields, found {len(row)}")
    if not rows.fields:
        raise UserError(f"{rows.path}: expected a row for every person, found none")
    by_name = dict(zip(names, zip(*rows.fields, strict=True), strict=True))
    typed: dict[str, Any] = {}
    for name in COLUMNS:
        read = _whole if name in WHOLE else _income if name == "income" else _category
        typed[name] = np.array(
            [
                read(line, name, field.strip())
                for line, field in zip(rows.lines, by_name[name], strict=True)
            ]
        )
    return typed


def _official(name: str) -> str:
    """Returns the official name of a column."""
    return OTHER_NAMES.get(name.strip(), name.strip())


def _check_columns(path: Path, names: Sequence[str]) -> None:
    """Raises UserError where a column is missing."""
    missing = [name for name in COLUMNS if name not in map(_official, names)]
    if missing:
        actual = ", ".join(names) or "none"
        raise UserError(f"{path}: expected a column {missing[0]}, found {actual}")


def _whole(line: str, name: str, field: str) -> int:
    if not (field.isascii() and field.isdigit() and len(field) < 10):
        raise UserError(f"{line}: expected {name} to be a whole number from 0, found {field!r}")
    return int(field)


def _income(line: str, name: str, field: str) -> str:
    income = field.removesuffix(".")
    if income not in INCOMES:
        raise UserError(f"{line}: expected {name} to be one of {INCOMES}, found {field!r}")
    return income


def _category(line: str, name: str, field: str) -> str:
    if len(field) > LONGEST:
        raise UserError(f"{line}: expected {name} to be a category, found {field[:40]!r} ...")
    return field or "?"

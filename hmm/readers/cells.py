"""Cells of a column as numbers: what is one, what is missing, what is text."""

import numbers
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

MISSING = {"", "na", "n/a", "#n/a", "null", "none", "<na>"}


class Parsed(NamedTuple):
    """A column as read.

    Attributes:
        values: float64 [row], NaN where there is no number.
        not_a_number: bool [row], where a NaN is written, which is no missing value.
        first_text: the first row that holds text, None where none does.
    """

    values: Float[np.ndarray, " row"]
    not_a_number: Bool[np.ndarray, " row"]
    first_text: int | None


def parse(column: pd.Series) -> Parsed:
    """Parses a column.

    A cell that is empty or says NA, null or None is missing. In columns that pandas holds as
    numbers NaN is missing, too, as pandas means it; as text, and in JSON, it is a NaN.
    """
    if column.dtype.kind in "biuf":
        values = column.to_numpy(np.float64, na_value=np.nan)
        return Parsed(values, np.zeros(len(values), bool), None)
    cells = column.to_numpy(object)
    absent = np.fromiter(map(_says_nothing, cells), bool, len(cells))
    values = np.full(len(cells), np.nan)
    first_text = None
    try:
        values[~absent] = cells[~absent].astype(float)  # by Python's float: exact
    except (ValueError, TypeError, OverflowError):
        parsed = [
            np.nan if none else number(cell) for none, cell in zip(absent, cells, strict=True)
        ]
        first_text = next((i for i, value in enumerate(parsed) if value is None), None)
        values = np.array([np.nan if value is None else value for value in parsed])
        absent |= np.array([value is None for value in parsed])
    return Parsed(values, np.isnan(values) & ~absent, first_text)


def _says_nothing(cell: Any) -> bool:
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING
    return cell is None or cell is pd.NA or cell is pd.NaT


def is_missing(cell: Any) -> bool:
    """Tells whether a cell that names something is empty, or pandas' sign for it."""
    return cell is None or cell is pd.NA or (isinstance(cell, float) and bool(np.isnan(cell)))


def number(cell: Any) -> float | None:
    """Returns a cell as a number, None where it is text."""
    if isinstance(cell, numbers.Real):
        try:
            return float(cell)
        except OverflowError:  # a whole number above all floats
            return None
    text = str(cell).strip().lower()
    if text in ("true", "false"):  # as pandas writes columns of booleans
        return float(text == "true")
    try:
        return float(text)
    except ValueError:
        return None

"""When a run has converged: one column, one direction, one number, such as "eval_loss < 1.6"."""

import math
import operator
import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Real

from seedmap.errors import UserError

_COMPARE = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_WORDS = {">": "above", ">=": "at least", "<": "below", "<=": "at most"}
DEFAULT_ACCURACY = 0.9


@dataclass(frozen=True)
class Criterion:
    """A run has converged at its first record where `column` compares so with `value`.

    Attributes:
        column: name of what was recorded.
        compare: one of >, >=, <, <=.
        value: in the column's unit.
    """

    column: str
    compare: str
    value: float

    def __str__(self) -> str:
        return f"{self.column} {self.compare} {self.value:.15g}"

    @property
    def words(self) -> str:
        """The criterion in words, such as "eval_loss below 1.6"."""
        return f"{self.column} {_WORDS[self.compare]} {self.value:.15g}"

    def met(self, values: Real[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
        """Returns where values meet it; NaN and infinities never do."""
        values = np.asarray(values, float)
        return np.isfinite(values) & _COMPARE[self.compare](values, self.value)


def parse_criterion(text: str) -> Criterion:
    """Parses "COLUMN > NUMBER", or with >=, <, <=; the column may have blanks and slashes.

    Raises:
        UserError: it is none.

    Example:
        >>> parse_criterion("val/top 1 >= 0.75")
        Criterion(column='val/top 1', compare='>=', value=0.75)
    """
    match = re.fullmatch(r"\s*(.*\S)\s*(>=|<=|(?<![<>])[<>])\s*([^\s<>=]+)\s*", text, re.DOTALL)
    try:
        value = float(match[3]) if match else math.nan
    except ValueError:
        value = math.nan
    if match is None or not math.isfinite(value):
        raise UserError(
            f"converged: {text!r} is no column compared with a number; write it as "
            "'eval_accuracy > 0.9' or 'train_loss < 1.6'"
        )
    return Criterion(match[1], match[2], value)

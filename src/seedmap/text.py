"""Numbers as people read them: one function for each kind, the same in HTML and in the terminal."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

DASH = "\N{EN DASH}"
UNDEFINED = "undefined"
NOT_DETERMINED = "not determined"
WIDEST = 100.0  # high over low of an interval above 0 that still says something
_MINUS = "\N{MINUS SIGN}"


@runtime_checkable
class Interval(Protocol):
    """An estimate and the ends of its interval, each None where it is not defined."""

    @property
    def value(self) -> float | None: ...  # noqa: D102

    @property
    def low(self) -> float | None: ...  # noqa: D102

    @property
    def high(self) -> float | None: ...  # noqa: D102


def cell(value: Any) -> str:
    """Returns any value as a table shows it.

    Numbers have four digits or are whole, None is a dash, truth is yes or no, lists are joined.
    """
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value)) or "none"
    return str(value)


def number(value: float | None, digits: int = 3, undefined: str = DASH) -> str:
    """Returns a number to some significant digits; 0 for exactly 0 only.

    Args:
        value: the number.
        digits: significant digits.
        undefined: text for None.

    Example:
        >>> number(0.5), number(1034.5), number(0.0)
        ('0.500', '1034', '0')
    """
    if value is None:
        return undefined
    if value == 0:
        return "0"
    is_whole = 10**digits <= abs(value) < 1e9
    text = f"{value:.0f}" if is_whole else f"{value:#.{digits}g}".rstrip(".")
    return text.replace("-", _MINUS)


def fixed(value: float | None, decimals: int = 3, undefined: str = DASH) -> str:
    """Returns a number with some decimals, so that numbers of a column can be compared."""
    return undefined if value is None else f"{value:.{decimals}f}".replace("-", _MINUS)


def explained(left_out_r2: float) -> str:
    """Returns an R² of left-out runs, 0 where it is below: nothing is explained."""
    return fixed(max(left_out_r2, 0.0))


def percent(share: float | None, digits: int = 3) -> str:
    """Returns a share in per cent, as in `3.10 %`."""
    return DASH if share is None else f"{number(100 * share, digits)} %"


def whole_percent(share: float) -> str:
    """Returns a share in per cent without decimals, as in `3 %`."""
    return f"{100 * share:.0f} %"


def p_value(p: float | None) -> str:
    """Returns a p-value for a table, `<0.001` where it is that small."""
    return "<0.001" if p is not None and p < 0.001 else fixed(p)


def p_equals(p: float | None) -> str:
    """Returns a p-value in a sentence, as in `p = 0.02`."""
    return "p is undefined" if p is None else f"p = {p:.2g}"


def says_nothing(estimate: Interval, within: tuple[float, float] | None = None) -> bool:
    """Tells whether an interval's ends are so many times apart, or open, that it says nothing.

    Args:
        estimate: the value and its ends.
        within: the values there can be; an interval that holds them all says nothing either.
    """
    low, high = estimate.low, estimate.high
    if low is None or high is None:
        return low is not None  # open upwards
    all_of_it = within is not None and low <= within[0] and high >= within[1]
    return all_of_it or (low > 0 and high / low >= WIDEST)


def interval(
    estimate: Interval | None,
    factor: float = 1.0,
    unit: str = "",
    digits: int = 3,
    within: tuple[float, float] | None = None,
) -> str:
    """Returns `3.10 % [2.80, 3.40]`, or the bare value where the ends are unknown or alike.

    Where the ends are a factor of 100 or more apart, or leave nothing out, it is `not determined`.

    Args:
        estimate: the value and its ends.
        factor: what to multiply by, 100 for per cent.
        unit: what to write after the value.
        digits: significant digits.
        within: the values there can be, as of `says_nothing`.
    """
    if estimate is None or estimate.value is None:
        return DASH
    if says_nothing(estimate, within):
        return NOT_DETERMINED
    value = number(factor * estimate.value, digits) + unit
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return value
    low, high = number(factor * estimate.low, digits), number(factor * estimate.high, digits)
    return f"{value} [{low}, {high}]"


def mean_and_sd(mean: float | None, sd: float | None, digits: int = 4, sd_digits: int = 3) -> str:
    """Returns `310.0 ± 42.0`, without the second number where it is not defined."""
    spread = "" if sd is None else f" ± {number(sd, sd_digits)}"
    return f"{number(mean, digits)}{spread}"


def yes_no(value: bool | None) -> str:
    """Returns `yes` or `no`, a dash for None."""
    return DASH if value is None else "yes" if value else "no"


def count(value: int | None) -> str:
    """Returns a count, a dash for None."""
    return DASH if value is None else str(value)


def of(some: int, all_: int) -> str:
    """Returns `9 of 10`."""
    return f"{some} of {all_}"


def time(value: float | None) -> str:
    """Returns a time as a whole number; `never` where there is none."""
    return "never" if value is None or not math.isfinite(value) else f"{value:.0f}"


def duration(seconds: float) -> str:
    """Returns a time in seconds, or in minutes from two on."""
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def changes(features: Iterable[tuple[str, float]]) -> str:
    """Returns changes of metrics with their signs, as in `l2 +0.5; trace -1.2`."""
    return "; ".join(f"{name} {change:+.3g}" for name, change in features)


def listed(values: Sequence[Any], noun: str) -> str:
    """Returns `state 2`, or `states 2, 3 and 4`."""
    names = [str(value) for value in values]
    joined = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"{noun}{'s' if len(names) > 1 else ''} {joined}"


def joined(values: Sequence[Any], otherwise: str = "none") -> str:
    """Returns numbers separated by spaces, or the text for an empty list."""
    return " ".join(map(str, values)) or otherwise

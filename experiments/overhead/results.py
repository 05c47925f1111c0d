"""What the times of all networks and modes come to: a row each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seedmap.experiments.overhead.measuring import Timing
from seedmap.experiments.overhead.modes import DEFAULT
from seedmap.experiments.overhead.networks import NETWORKS
from seedmap.experiments.overhead.statistics import Interval, median_interval, ratio_interval


@dataclass(frozen=True)
class Result:
    """One network under one mode.

    Attributes:
        timing: the raw times.
        step_ms: milliseconds a step and seed; None where there was an error.
        ratio: time over that of the default mode, seed for seed, within rounds; None where either
            has an error.
    """

    timing: Timing
    step_ms: Interval | None
    ratio: Interval | None

    @property
    def kernel_size(self) -> int | None:
        """Of a six-layer network."""
        return NETWORKS[self.timing.network].kernel_size

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        intervals = {"step_ms": self.step_ms, "ratio": self.ratio}
        named = {name: value and value._asdict() for name, value in intervals.items()}
        return {**self.timing.as_dict(), "kernel_size": self.kernel_size, **named}

    def flat(self) -> dict[str, Any]:
        """For CSV."""
        row = self.as_dict()
        for name in ("step_ms", "ratio"):
            value = row.pop(name) or dict.fromkeys(Interval._fields)
            row |= {
                name: value["median"],
                f"{name}_low": value["low"],
                f"{name}_high": value["high"],
            }
        row["coverage"] = self.step_ms and self.step_ms.coverage
        row["seconds"] = " ".join(f"{seconds:.6g}" for seconds in row["seconds"])
        return row


def results_of(timings: Sequence[Timing], steps: int) -> list[Result]:
    """Medians, ratios and their intervals.

    Args:
        timings: of any networks, the default mode among those of each.
        steps: training steps a turn.
    """
    base = {timing.network: timing for timing in timings if timing.mode == DEFAULT}
    return [_result(timing, base[timing.network], steps) for timing in timings]


def _result(timing: Timing, base: Timing, steps: int) -> Result:
    if timing.error is not None:
        return Result(timing, None, None)
    a_seed = [seconds / timing.seeds for seconds in timing.seconds]
    step_ms = median_interval([1000 * seconds / steps for seconds in a_seed])
    ratio = ratio_interval(a_seed, base.seconds) if base.error is None else None
    return Result(timing, step_ms, ratio)


_HEADER = ("network", "mode", "ms a step and seed", "interval", "ratio", "interval", "compile s")


def header() -> tuple[str, ...]:
    """Of `cells`."""
    return _HEADER


def cells(result: Result) -> list[str]:
    """A row of the table, as text; where there was an error, it takes the place of the times."""
    timing = result.timing
    compiled = "" if timing.compile_seconds is None else f"{timing.compile_seconds:.1f}"
    if result.step_ms is None:
        return [timing.network, timing.mode, "failed", "", "", "", compiled]
    ratio = ["", ""] if result.ratio is None else _median_and_ends(result.ratio, ".3f")
    return [timing.network, timing.mode, *_median_and_ends(result.step_ms, ".4g"), *ratio, compiled]


def _median_and_ends(interval: Interval, form: str) -> list[str]:
    ends = f"{interval.low:{form}} to {interval.high:{form}}"
    return [f"{interval.median:{form}}", ends]


def terminal(content: Mapping[str, Any], results: Sequence[Result]) -> str:
    """The table as aligned text; what failed, and notes, last."""
    lines = [list(_HEADER), *map(cells, results)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    failed = [f"failed: {said}" for said in failures(results)]
    return "\n".join([*table, *failed, *(f"note: {note}" for note in content["notes"])])


def failures(results: Sequence[Result]) -> list[str]:
    """Networks and modes without times, with the reason."""
    timings = [result.timing for result in results]
    return [f"{t.network} {t.mode}: {t.error}" for t in timings if t.error is not None]

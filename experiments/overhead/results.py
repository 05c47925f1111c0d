"""Summary of the times of all networks and modes: a row each, and `overhead.json`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seedmap.experiments.overhead.measuring import Timing, Trial
from seedmap.experiments.overhead.modes import DEFAULT
from seedmap.experiments.overhead.networks import NETWORKS
from seedmap.experiments.overhead.statistics import Interval, median_interval, ratio_interval
from seedmap.experiments.runs.device import Device
from seedmap.results import to_json


@dataclass(frozen=True)
class Result:
    """Times of one network under one mode.

    Attributes:
        network: its name.
        mode: its name.
        image_size: rows and columns.
        seeds: trained in one step.
        seconds: of a turn's steps, a number a round.
        parameters: of the network.
        compile_seconds: what XLA took for the step.
        bytes: of memory that the process took at most while it warmed up.
        turns: how the modes took turns.
        error: why there are no times, or not all.
        kernel_size: of a six-layer network.
        step_ms: milliseconds a step and seed; None where there was an error.
        ratio: time over that of the default mode, seed for seed, within rounds; None where either
            has an error.
    """

    network: str
    mode: str
    image_size: int
    seeds: int
    seconds: list[float]
    parameters: int | None
    compile_seconds: float | None
    bytes: int | None
    turns: str | None
    error: str | None
    kernel_size: int | None
    step_ms: Interval | None
    ratio: Interval | None

    def flat(self) -> dict[str, Any]:
        """Returns the row without nesting, for CSV."""
        row = to_json(self)
        for name in ("step_ms", "ratio"):
            interval = row.pop(name) or dict.fromkeys(("median", "low", "high"))
            row |= {
                name: interval["median"],
                f"{name}_low": interval["low"],
                f"{name}_high": interval["high"],
            }
        row["coverage"] = self.step_ms and self.step_ms.coverage
        row["seconds"] = " ".join(f"{seconds:.6g}" for seconds in self.seconds)
        return row


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measurement, see `measuring.Settings`."""

    steps: int
    batch_size: int
    rounds: int
    seeds: int
    image_size: int | None


@dataclass(frozen=True)
class OverheadSummary:
    """The content of `overhead.json`.

    Attributes:
        device: that was used.
        versions: of the packages that bear on the times.
        git_commit: of the source; None where no checkout tracks it.
        settings: how much was timed.
        modes: what each is, by name.
        trials: by which the whole cost was estimated.
        notes: what a reader must know, most important first.
        rows: a network under a mode each.
    """

    device: Device
    versions: dict[str, str]
    git_commit: str | None
    settings: Sizes
    modes: dict[str, str]
    trials: list[Trial]
    notes: list[str]
    rows: list[Result]


def results_of(timings: Sequence[Timing], steps: int) -> list[Result]:
    """Computes medians, ratios and their intervals.

    Args:
        timings: of any networks, the default mode among those of each.
        steps: training steps a turn.
    """
    base = {timing.network: timing for timing in timings if timing.mode == DEFAULT}
    return [_result(timing, base[timing.network], steps) for timing in timings]


def _result(timing: Timing, base: Timing, steps: int) -> Result:
    step_ms = ratio = None
    if timing.error is None:
        a_seed = [seconds / timing.seeds for seconds in timing.seconds]
        step_ms = median_interval([1000 * seconds / steps for seconds in a_seed])
        ratio = ratio_interval(a_seed, base.seconds) if base.error is None else None
    kernel_size = NETWORKS[timing.network].kernel_size
    return Result(**timing.as_dict(), kernel_size=kernel_size, step_ms=step_ms, ratio=ratio)


def failures(results: Sequence[Result]) -> list[str]:
    """Returns networks and modes without times, with the reason."""
    return [f"{r.network} {r.mode}: {r.error}" for r in results if r.error is not None]

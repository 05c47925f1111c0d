"""Where the wall time of a command goes: parts that add up to it.

    with timed("fit"):      # counts from here to the end of the block, less what other parts take
        ...

Nothing is measured until `start` is called. Parts are those of the main thread; compilation, on
whatever thread, is taken out of the part that waits for it. What one compiled program does cannot
be told apart by a clock: of such a part a share that was found otherwise is given to another
(`divide`), and what finding it took is the part "timing".
"""

import builtins
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IMPORTS, COMPILE, OTHER = "imports", "compile", "other"
TIMING = "timing"
"""What measuring itself takes, compilation of its programs among it."""
_COMPILING = "/jax/core/compile/"
_COMPILED = "/jax/core/compile/backend_compile_duration"
_CACHE_HIT = "/jax/compilation_cache/cache_hits"
_LONGEST = 12  # programs that are named


@dataclass
class Programs:
    """Compiled programs of one name.

    Attributes:
        seconds: what tracing, lowering and compiling them took, on all threads.
        count: number of them.
        cached: of these the ones that the cache of compiled programs had.
    """

    seconds: float = 0.0
    count: int = 0
    cached: int = 0


@dataclass
class _Clock:
    """Times so far; `stack` holds the parts that the main thread is in, the innermost last."""

    began: float
    last: float
    stack: list[str] = field(default_factory=lambda: [OTHER])
    parts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    compiling: list[tuple[float, float, str]] = field(default_factory=list)  # from, to, part
    programs: dict[str, Programs] = field(default_factory=lambda: defaultdict(Programs))
    hit: threading.local = field(default_factory=threading.local)  # of the program under way
    shares: dict[tuple[str, str], float] = field(default_factory=dict)  # (from, to)
    folders: dict[Path, None] = field(default_factory=dict)  # written to, in their order

    def turn(self) -> None:
        """Counts the time since the last turn for the part the main thread is in."""
        now = time.perf_counter()
        self.parts[self.stack[-1]] += now - self.last
        self.last = now


@dataclass(frozen=True)
class Timings:
    """Where the time went, in seconds of wall time.

    Attributes:
        total: since the process began.
        parts: by name; they add up to the total.
        programs: by name.
        folders: that were written to, whole or not at all.
    """

    total: float
    parts: dict[str, float]
    programs: dict[str, Programs]
    folders: tuple[Path, ...]


_clock: _Clock | None = None


def start() -> None:
    """Begins to measure; the time since the process began counts as imports."""
    global _clock
    now = time.perf_counter()
    before = _seconds_of_the_process()
    _clock = _Clock(now - before, now)
    _clock.parts[IMPORTS] += before
    builtins.__import__ = _timed_import(builtins.__import__)
    from jax import monitoring

    monitoring.register_event_duration_secs_listener(_compiled)
    monitoring.register_event_listener(_found)


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Counts the block for a part; other threads than the main one are left out."""
    clock = _clock
    if clock is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    clock.turn()
    clock.stack.append(name)
    try:
        yield
    finally:
        clock.turn()
        clock.stack.pop()


def is_on() -> bool:
    """Tells whether times are measured."""
    return _clock is not None


def divide(whole: str, part: str, share: float) -> None:
    """Gives a share (0 to 1) of one part's seconds, compilation left out, to another part."""
    if _clock is not None:
        _clock.shares[whole, part] = share


def measured() -> Timings | None:
    """Returns the times so far; None where nothing is measured."""
    clock = _clock
    if clock is None:
        return None
    clock.turn()
    seconds_by_section = dict(clock.parts)
    for section in {name for *_, name in clock.compiling} - {TIMING}:
        seconds = _covered([(a, b) for a, b, name in clock.compiling if name == section])
        taken = min(seconds, seconds_by_section[section])
        seconds_by_section[section] -= taken
        seconds_by_section[COMPILE] = seconds_by_section.get(COMPILE, 0.0) + taken
    for (whole, part), share in clock.shares.items():
        seconds_by_section[part] = seconds_by_section.get(part, 0.0)
        moved = share * seconds_by_section.get(whole, 0.0)
        seconds_by_section[whole] -= moved
        seconds_by_section[part] += moved
    total = time.perf_counter() - clock.began
    return Timings(total, seconds_by_section, dict(clock.programs), tuple(clock.folders))


def wrote(folder: Path) -> None:
    """Says that the command has written to a folder."""
    if _clock is not None:
        _clock.folders[Path(folder)] = None


def table(timings: Timings) -> str:
    """Returns the parts, the longest first, and the programs that took longest to compile."""
    rows = sorted(timings.parts.items(), key=lambda row: -row[1])
    rows.append(("in all", timings.total))
    lines = [f"{name:<10} {value:7.2f} s  {value / timings.total:5.1%}" for name, value in rows]
    programs = sorted(timings.programs.items(), key=lambda row: -row[1].seconds)
    count, cached = (sum(getattr(of, name) for _, of in programs) for name in ("count", "cached"))
    lines.append(f"programs: {count}, {cached} of them from the cache")
    for name, of in programs[:_LONGEST]:
        lines.append(f"  compile {name:<40} {of.seconds:7.2f} s  {of.count}, cached {of.cached}")
    return "\n".join(lines)


def _compiled(event: str, duration_secs: float, **facts: Any) -> None:
    """Hears of every trace, lowering and compilation; they may lie within each other."""
    if _clock is None or not event.startswith(_COMPILING):
        return
    now = time.perf_counter()
    _clock.compiling.append((now - duration_secs, now, _clock.stack[-1]))
    program = _clock.programs[
        str(facts.get("fun_name", "?")).removeprefix("jit(").removesuffix(")")
    ]
    program.seconds += duration_secs
    if event == _COMPILED:
        program.count += 1
        program.cached += getattr(_clock.hit, "now", False)
        _clock.hit.now = False


def _found(event: str, **facts: Any) -> None:
    """Hears of a program that the cache had; its thread tells of its compilation next."""
    if _clock is not None and event == _CACHE_HIT:
        _clock.hit.now = True


def _covered(intervals: list[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, end = 0.0, -float("inf")
    for low, high in sorted(intervals):
        total += max(0.0, high - max(low, end))
        end = max(end, high)
    return total


def _timed_import(load: Any) -> Any:
    """An `__import__` that counts what it loads, modules that were there already left out."""

    def timed_import(name: str, *arguments: Any, **options: Any) -> Any:
        if name in sys.modules or (_clock is not None and _clock.stack[-1] == IMPORTS):
            return load(name, *arguments, **options)
        with timed(IMPORTS):
            return load(name, *arguments, **options)

    return timed_import


def _seconds_of_the_process() -> float:
    """How long this process has run; 0 where the system does not say."""
    try:
        ticks = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up = float(Path("/proc/uptime").read_text().split()[0])
        return max(0.0, up - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return 0.0

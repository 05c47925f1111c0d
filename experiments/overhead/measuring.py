"""Timing the networks under the modes, in turns."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from seedmap.experiments.overhead.child import WARM_UP, Job
from seedmap.experiments.overhead.modes import Mode
from seedmap.experiments.overhead.networks import Network, usual_image_size
from seedmap.experiments.overhead.processes import Process, environment
from seedmap.experiments.processes.child import ProcessFailed

_SHARE_OF_MEMORY = 0.7  # that the processes of a network may take together

OnTurn = Callable[[str, int], None]  # what is done, and how many turns it is


@dataclass(frozen=True)
class Settings:
    """Platform and sizes of a measurement.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        scratch: folder for what the processes keep while the command runs.
        steps: training steps a turn.
        batch_size: examples a step.
        rounds: turns of every mode.
        seeds: side by side where a mode is vmapped.
        image_size: rows and columns; None for each network's own.
    """

    platform: str
    scratch: Path
    steps: int = 100
    batch_size: int = 128
    rounds: int = 6
    seeds: int = 4
    image_size: int | None = None

    def size_for(self, network: Network) -> int:
        """Returns the rows and columns of the images of a network."""
        return self.image_size or usual_image_size(network, self.platform)

    def job(self, network: Network, mode: Mode) -> Job:
        """Describes what the process of a network and a mode is to do."""
        seeds = self.seeds if mode.vmapped else None
        size = self.size_for(network)
        return Job(network.name, self.batch_size, size, seeds, mode.bfloat16)

    def start(self, network: Network, mode: Mode) -> Process:
        """Starts that process."""
        return Process(self.job(network, mode), environment(mode, self.scratch))


@dataclass
class Timing:
    """Times of one network under one mode; filled in as they are taken.

    Attributes:
        network: its name.
        mode: its name.
        image_size: rows and columns.
        seeds: trained in one step.
        seconds: of `steps` steps, a number a round.
        parameters: of the network.
        compile_seconds: what XLA took for the step.
        bytes: of memory that the process took at most while it warmed up.
        turns: "alive together" or "started anew each round": how the modes took turns.
        error: why there are no times, or not all.
    """

    network: str
    mode: str
    image_size: int
    seeds: int
    seconds: list[float] = field(default_factory=list)
    parameters: int | None = None
    compile_seconds: float | None = None
    bytes: int | None = None
    turns: str | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Makes plain Python of it, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Trial:
    """A few steps of a network under the default mode.

    Attributes:
        network: its name.
        start_seconds: from nothing to warm.
        step_seconds: a step.
        compile_seconds: of that what XLA took.
        error: why there are none.
    """

    network: str
    start_seconds: float = 0.0
    step_seconds: float = 0.0
    compile_seconds: float | None = None
    error: str | None = None


def try_network(network: Network, mode: Mode, settings: Settings) -> Trial:
    """Runs the few steps by which the whole cost is estimated."""
    began = time.perf_counter()
    with settings.start(network, mode) as process:
        try:
            known = process.answer()
        except ProcessFailed as failure:
            return Trial(network.name, error=str(failure))
        taken = time.perf_counter() - began
        return Trial(network.name, taken, known["step_seconds"], known["compile_seconds"])


def estimate_seconds(trial: Trial, modes: Sequence[Mode], settings: Settings) -> float:
    """Estimates the seconds that the turns of a network take, by its trial.

    As if every mode took as long as the default one, a seed; processes that must be started anew
    each round take longer.
    """
    supported = [mode for mode in modes if settings.platform in mode.platforms]
    seeds = sum(settings.seeds if mode.vmapped else 1 for mode in supported)
    steps = settings.rounds * settings.steps + WARM_UP
    return len(supported) * trial.start_seconds + seeds * steps * trial.step_seconds


def turns(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Says who is next, round by round; each round begins with another one.

    So whatever drifts over the rounds drifts for all, and none is always behind the same one.
    """
    for round_ in range(rounds):
        first = round_ % max(1, len(names))
        yield from (*names[first:], *names[:first])


def fit_together(modes: Sequence[Mode], seeds: int, known: dict[str, Any], platform: str) -> bool:
    """Tells whether the processes of all modes may live at the same time.

    Not on a TPU, which one process holds; elsewhere by the memory that the default one takes.

    Args:
        modes: to be timed.
        seeds: of the vmapped ones.
        known: `bytes` that one seed takes, and `bytes_limit`.
        platform: "cpu", "gpu" or "tpu".
    """
    needed = known["bytes"] * sum(seeds if mode.vmapped else 1 for mode in modes)
    return platform != "tpu" and needed <= _SHARE_OF_MEMORY * known["bytes_limit"]


def measure(
    network: Network, modes: Sequence[Mode], settings: Settings, on_turn: OnTurn
) -> list[Timing]:
    """Times a network under all modes, which take turns of `settings.steps` steps.

    A mode that cannot run on this platform, does not compile or breaks down keeps its row, with the
    reason; the others go on.

    Args:
        network: which.
        modes: the default one first.
        settings: how much.
        on_turn: called before every start and every turn with what it is and 0, and after it with
            the number of turns that are done with: one for a start, `settings.rounds` more for
            a mode that is given up.

    Returns:
        A timing a mode.
    """
    return _Measurement(network, modes, settings, on_turn).timings()


class _Measurement:
    """The processes of one network while they take turns."""

    def __init__(
        self, network: Network, modes: Sequence[Mode], settings: Settings, on_turn: OnTurn
    ):
        self.network, self.settings, self.on_turn = network, settings, on_turn
        self.modes = {mode.name: mode for mode in modes}
        size = settings.size_for(network)
        self.rows = {
            mode.name: Timing(network.name, mode.name, size, settings.seeds if mode.vmapped else 1)
            for mode in modes
        }
        self.alive: dict[str, Process] = {}
        self.together: bool | None = None  # known once the first is warm

    def timings(self) -> list[Timing]:
        with ExitStack() as stack:
            stack.callback(lambda: [process.close() for process in self.alive.values()])
            for name in self.modes:
                self._attempt(name, lambda name=name: self._begin(name))
            names = [name for name, row in self.rows.items() if row.error is None]
            for name in turns(names, self.settings.rounds):
                if self.rows[name].error is None:
                    self._attempt(name, lambda name=name: self._turn(name))
        return list(self.rows.values())

    def _attempt(self, name: str, action: Callable[[], None]) -> None:
        """Runs a turn; if it fails, drops the mode's remaining turns."""
        label = f"{self.network.name} {name}"
        self.on_turn(label, 0)
        try:
            action()
        except ProcessFailed as failure:
            row = self.rows[name]
            row.error = str(failure)
            self._close(name)
            self.on_turn(label, 1 + self.settings.rounds - len(row.seconds) - self._started(row))
            return
        self.on_turn(label, 1)

    @staticmethod
    def _started(row: Timing) -> int:
        return int(row.compile_seconds is not None)

    def _begin(self, name: str) -> None:
        """Starts a mode for the first time and notes what it takes."""
        mode, settings, row = self.modes[name], self.settings, self.rows[name]
        if settings.platform not in mode.platforms:
            raise ProcessFailed(
                f"unsupported: {settings.platform.upper()} has no such mode; it is for "
                f"{' and '.join(map(str.upper, mode.platforms))}"
            )
        known = self._start(name)
        if self.together is None:
            seeds = settings.seeds
            self.together = fit_together([*self.modes.values()], seeds, known, settings.platform)
        if not self.together:
            self._close(name)
        row.parameters, row.bytes = known["parameters"], known["bytes"]
        row.compile_seconds = known["compile_seconds"]
        row.turns = "alive together" if self.together else "started anew each round"

    def _turn(self, name: str) -> None:
        if name not in self.alive:
            self._start(name)
        self.rows[name].seconds.append(self.alive[name].run(self.settings.steps))
        if not self.together:
            self._close(name)

    def _start(self, name: str) -> dict[str, Any]:
        self.alive[name] = self.settings.start(self.network, self.modes[name])
        return self.alive[name].answer()

    def _close(self, name: str) -> None:
        if name in self.alive:
            self.alive.pop(name).close()

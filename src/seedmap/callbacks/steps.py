"""One record a step, of which a library tells at several times: after it, and after validation."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from seedmap.errors import UserError
from seedmap.experiments.recording.recorder import Recorder


class Steps:
    """Collects the values of a step and records them before the next one begins.

    Args:
        recorder: of the run.
        every: record every so many steps, whether values are told or not; None: only with values.
        step: at which training begins; what was recorded after it goes.
    """

    def __init__(self, recorder: Recorder, every: int | None, step: int) -> None:
        recorder.drop_after(step)
        self._recorder, self._every = recorder, every
        self._values: dict[str, float] = {}
        self._due = False

    def tell(self, values: Mapping[str, Any], due: bool = True) -> None:
        """Adds the finite numbers among the values of this step; `due`: they make a record."""
        numbers = {name: _number(value) for name, value in values.items()}
        self._values |= {name: value for name, value in numbers.items() if math.isfinite(value)}
        self._due = self._due or (due and bool(values))

    def finish(self, step: int, parameters: Callable[[], Any]) -> None:
        """Records a step that is done, where it is to be recorded and was not before."""
        due = self._due or step == 0 or (self._every is not None and step % self._every == 0)
        last = self._recorder.last_step
        if due and (last is None or step > last):
            self._recorder.record(step, parameters(), **self._values)
        self._values, self._due = {}, False

    def close(self) -> None:
        """Lets the run go."""
        self._recorder.close()


def check_every(every: int | None) -> None:
    """Raises UserError unless it is a number of steps."""
    if every is not None and (not isinstance(every, int) or every < 1):
        raise UserError(f"every is {every!r}; it must be a number of steps, 1 or more, or None")


def _number(value: Any) -> float:
    """Returns a number as float; NaN of what is none."""
    if isinstance(value, str | bytes):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # the last of tensors with several entries
        return math.nan

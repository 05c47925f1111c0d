"""A callback for `keras.Model.fit`."""

import os
from typing import Any

import keras

from seedmap.callbacks.steps import Steps, check_every
from seedmap.experiments.recording.recorder import Recorder


class RecorderCallback(keras.callbacks.Callback):
    """Records a run of Keras at the end of every epoch, with its logs.

    Args:
        folder: as of `seedmap.Recorder`.
        run: name of this run.
        every: record every so many steps besides.
        **options: layout, rules and heads, as of `seedmap.Recorder`.

    Example:
        model.fit(x, y, callbacks=[RecorderCallback("runs/mine", run="seed3")])
    """

    def __init__(
        self, folder: str | os.PathLike[str], run: str, every: int | None = None, **options: Any
    ) -> None:
        super().__init__()
        check_every(every)
        self._where, self._every, self._options = (folder, run), every, options
        self._steps: Steps | None = None
        self._step = self._before = 0  # now, and as the epoch began

    def on_train_begin(self, logs=None):
        """Opens the run."""
        self._step = int(self.model.optimizer.iterations.value)
        recorder = Recorder(*self._where, **self._options)
        self._steps = Steps(recorder, self._every, self._step)

    def on_epoch_begin(self, epoch, logs=None):
        """Counts on from the steps of the epochs before."""
        self._before = self._step

    def on_train_batch_begin(self, batch, logs=None):
        """Records the step before."""
        self._finish()

    def on_train_batch_end(self, batch, logs=None):
        """Counts the step."""
        self._step = self._before + batch + 1

    def on_epoch_end(self, epoch, logs=None):
        """Takes the epoch's logs, which are recorded with its last step."""
        if self._steps is not None:
            self._steps.tell(logs or {})

    def on_train_end(self, logs=None):
        """Records the last step and lets the run go."""
        self._finish()
        if self._steps is not None:
            self._steps.close()
            self._steps = None

    def _finish(self) -> None:
        if self._steps is not None:
            self._steps.finish(self._step, self._weights)

    def _weights(self) -> dict[str, Any]:
        sync = getattr(self.model, "jax_state_sync", None)  # on JAX the model lags behind
        if sync is not None:
            sync()
        return {variable.path: variable.value for variable in self.model.weights}

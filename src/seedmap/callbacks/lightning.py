"""A callback for `lightning.pytorch.Trainer`."""

import os
from typing import Any

from lightning.pytorch import Callback

from seedmap.callbacks.steps import Steps, check_every
from seedmap.experiments.recording.recorder import Recorder


class RecorderCallback(Callback):
    """Records a run of Lightning's Trainer wherever it validates.

    What the module logs in training goes along as it was last logged.

    Args:
        folder: as of `seedmap.Recorder`.
        run: name of this run.
        every: record every so many steps besides.
        **options: layout, rules and heads, as of `seedmap.Recorder`.

    Example:
        Trainer(callbacks=[RecorderCallback("runs/mine", run="seed3", every=100)])
    """

    def __init__(
        self, folder: str | os.PathLike[str], run: str, every: int | None = None, **options: Any
    ) -> None:
        check_every(every)
        self._where, self._every, self._options = (folder, run), every, options
        self._steps: Steps | None = None
        self._of_training: set[str] = set()  # names of what is logged there
        self._of_validation: set[str] = set()

    def on_train_start(self, trainer, pl_module):
        """Opens the run."""
        if trainer.is_global_zero:
            recorder = Recorder(*self._where, **self._options)
            self._steps = Steps(recorder, self._every, trainer.global_step)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        """Records the step before."""
        if self._steps is not None:
            self._steps.finish(trainer.global_step, pl_module.state_dict)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """Takes what training logs."""
        if self._steps is not None:
            self._of_training |= trainer.callback_metrics.keys() - self._of_validation
            self._steps.tell(self._logged(trainer, self._of_training), due=False)

    def on_validation_end(self, trainer, pl_module):
        """Takes what validation logs, which is recorded with this step."""
        if self._steps is not None and not trainer.sanity_checking:
            self._of_validation |= trainer.callback_metrics.keys() - self._of_training
            self._steps.tell(self._logged(trainer, self._of_validation))

    def on_train_end(self, trainer, pl_module):
        """Records the last step and lets the run go."""
        if self._steps is not None:
            self._steps.finish(trainer.global_step, pl_module.state_dict)
            self._close()

    def on_exception(self, trainer, pl_module, exception):
        """Lets the run go."""
        if self._steps is not None:
            self._close()

    def _logged(self, trainer, names: set[str]) -> dict[str, Any]:
        return {name: of for name, of in trainer.callback_metrics.items() if name in names}

    def _close(self) -> None:
        assert self._steps is not None
        self._steps.close()
        self._steps = None

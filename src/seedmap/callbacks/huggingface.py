"""A callback for `transformers.Trainer`."""

import os
from typing import Any

from transformers import TrainerCallback

from seedmap.callbacks.steps import Steps, check_every
from seedmap.experiments.recording.recorder import Recorder

_SPEEDS = ("_runtime", "_per_second")  # ends of names


class RecorderCallback(TrainerCallback):
    """Records a run of `transformers.Trainer` wherever it logs or evaluates.

    Args:
        folder: as of `seedmap.Recorder`.
        run: name of this run.
        every: record every so many steps besides.
        **options: layout, rules and heads, as of `seedmap.Recorder`; heads by the model's config.

    Example:
        Trainer(model, args, ..., callbacks=[RecorderCallback("runs/mine", run="seed3")])
    """

    def __init__(
        self, folder: str | os.PathLike[str], run: str, every: int | None = None, **options: Any
    ) -> None:
        check_every(every)
        self._where, self._every, self._options = (folder, run), every, options
        self._steps: Steps | None = None

    def on_train_begin(self, args, state, control, model=None, **_):
        """Opens the run."""
        if state.is_world_process_zero:
            heads = getattr(model.config, "num_attention_heads", None)
            recorder = Recorder(*self._where, **{"heads": heads, **self._options})
            self._steps = Steps(recorder, self._every, state.global_step)

    def on_log(self, args, state, control, logs=None, **_):
        """Takes what is logged; the means over all of a training, at its end, are of no step."""
        if self._steps is not None and logs and "train_runtime" not in logs:
            self._steps.tell({n: of for n, of in logs.items() if not n.endswith(_SPEEDS)})

    def on_step_begin(self, args, state, control, model=None, **_):
        """Records the step before."""
        if self._steps is not None:
            self._steps.finish(state.global_step, model.state_dict)

    def on_train_end(self, args, state, control, model=None, **_):
        """Records the last step and lets the run go."""
        if self._steps is not None:
            self._steps.finish(state.global_step, model.state_dict)
            self._steps.close()
            self._steps = None

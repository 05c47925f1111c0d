"""Training curves for TensorBoard, where the extra `tensorboard` is installed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from seedmap import files
from seedmap.errors import UserError
from seedmap.trainer import Progress


@contextmanager
def tensorboard_writer(folder: Path | None) -> Iterator[Callable[[Progress], None]]:
    """Yields a callback that writes the last record of every chunk: its spread over the seeds.

    Tags are "eval_loss/mean", "eval_loss/min" and "eval_loss/max", and so on for every variable;
    frozen seeds are left out. Without a folder it writes nothing.

    Raises:
        UserError: tensorboardX is not installed.
    """
    if folder is None:
        yield lambda progress: None
        return
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UserError(
            "--tensorboard needs tensorboardX: pip install 'seedmap[tensorboard]'"
        ) from None

    files.announce("write", folder)
    with SummaryWriter(str(folder)) as writer:

        def on_progress(progress: Progress) -> None:
            for name, values in (progress.record or {}).items():
                finite = values[np.isfinite(values)]
                if finite.size:
                    for kind in ("mean", "min", "max"):
                        value = getattr(finite, kind)()
                        writer.add_scalar(f"{name}/{kind}", value, progress.step)

        yield on_progress

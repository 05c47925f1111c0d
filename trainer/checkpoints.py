"""Checkpoints of a training's state: written by Orbax whole or not at all, checked when read."""

import errno
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

KEPT = 2  # the last one, and one in case it is damaged


@contextmanager
def checkpoints(folder: Path) -> Iterator[ocp.CheckpointManager]:
    """Orbax's manager of a folder that this process alone writes; what a kill left is cleared."""
    me = jax.process_index()
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=True,
        create=False,
        # Every process keeps the checkpoints of its own seeds and waits for no other.
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"part{me}"
        ),
    )
    folder.mkdir(parents=True, exist_ok=True)
    with ocp.CheckpointManager(folder.resolve(), options=options) as manager:
        yield manager


class Saved(NamedTuple):
    """A checkpoint as read.

    Attributes:
        step: optimisation steps done.
        finished: whether training had come to its end.
        paths: for each leaf, the names on the way to it.
        leaves: numpy arrays.
    """

    step: int
    finished: bool
    paths: list[list[str]]
    leaves: list[np.ndarray]


def _checksums(leaves: Sequence[np.ndarray]) -> list[int]:
    return [zlib.crc32(np.ascontiguousarray(leaf).tobytes()) for leaf in leaves]


def _name(key: Any) -> str:
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


def save(manager: ocp.CheckpointManager, step: int, tree: Any, finished: bool) -> None:
    """Saves a tree of numpy arrays under its step.

    Raises:
        OSError: it cannot be written; earlier checkpoints stay.
    """
    found = jax.tree_util.tree_leaves_with_path(tree)
    paths, leaves = [[_name(key) for key in path] for path, _ in found], [leaf for _, leaf in found]
    about = {"crc32": _checksums(leaves), "paths": paths, "finished": finished}
    content = ocp.args.Composite(
        state=ocp.args.StandardSave({f"{i:06}": leaf for i, leaf in enumerate(leaves)}),
        about=ocp.args.JsonSave(about),
    )
    try:
        manager.save(step, args=content)
    except Exception as error:  # Orbax and TensorStore raise all kinds for a disk that is full
        code, text = errno.EIO, str(error).splitlines()[0][:200]
        if isinstance(error, OSError) and error.errno:
            code, text = error.errno, error.strerror
        path = str(manager.directory)
        raise OSError(code, f"checkpoint not saved: {text}", path) from error


def _load(manager: ocp.CheckpointManager, step: int) -> Saved:
    """What was saved under a step.

    Raises:
        ValueError: checksums differ; or whatever Orbax raises on damaged files.
    """
    content = manager.restore(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardRestore(), about=ocp.args.JsonRestore()),
    )
    state, about = content["state"], content["about"]
    leaves = [np.asarray(state[name]) for name in sorted(state)]
    if _checksums(leaves) != about["crc32"]:
        raise ValueError("its checksums do not match")
    return Saved(step, about["finished"], about["paths"], leaves)


def load_latest(manager: ocp.CheckpointManager, at_most: int) -> Saved | None:
    """The last good checkpoint up to step `at_most`; later and damaged ones are deleted.

    Warns:
        UserWarning: for each damaged one, with what was wrong.
    """
    for step in sorted(manager.all_steps(), reverse=True):
        if step <= at_most:
            try:
                return _load(manager, step)
            except Exception as error:  # Orbax and TensorStore raise all kinds for damaged files
                reason = str(error).splitlines()[0][:200]
                warnings.warn(
                    f"checkpoint of step {step} in {manager.directory} is damaged ({reason}); "
                    "going back to an earlier one",
                    UserWarning,
                    stacklevel=2,
                )
        manager.delete(step)
    return None

"""Checkpoints of a training's state: written by Orbax whole or not at all, checked when read.

Orbax makes them atomic, clears what a kill left and drops old ones. Its own array formats write
arrays of one process from process 0 alone, and those of several as parts of one; here every process
has seeds of its own, so the leaves are written by a handler of ours: bytes, in an uncompressed zip.
"""

import json
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from seedmap import files, limits
from seedmap.errors import UserError

KEPT = 2  # the last one, and one in case it is damaged


@contextmanager
def checkpoints(folder: Path) -> Iterator[ocp.CheckpointManager]:
    """Opens Orbax's manager of a folder that this process alone writes, cleared of drafts."""
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
    files.make_folder(folder)
    with ocp.CheckpointManager(folder.resolve(), options=options) as manager:
        yield manager


class Saved(NamedTuple):
    """A checkpoint.

    Attributes:
        job: id of the part of a training whose state it is.
        step: optimisation steps done.
        finished: whether training had come to its end.
        paths: for each leaf, the names on the way to it.
        leaves: numpy arrays.
    """

    job: str
    step: int
    finished: bool
    paths: list[list[str]]
    leaves: list[np.ndarray]


class _LeavesHandler(ocp.CheckpointHandler):
    """Writes a `Saved` into a folder, and reads it back with its checksums compared."""

    def save(self, directory, args: "_LeavesArgs") -> None:
        saved = args.saved
        assert saved is not None  # it is None in what `restore` is given
        leaves = [np.ascontiguousarray(leaf) for leaf in saved.leaves]
        about = {
            "job": saved.job,
            "step": saved.step,
            "finished": saved.finished,
            "paths": saved.paths,
            "shapes": [leaf.shape for leaf in leaves],
            "dtypes": [leaf.dtype.name for leaf in leaves],
            "crc32": [zlib.crc32(leaf.tobytes()) for leaf in leaves],
        }
        raw = (np.frombuffer(leaf.tobytes(), np.uint8) for leaf in leaves)
        files.write_text(Path(directory) / "about.json", json.dumps(about))
        files.write_npz(
            Path(directory) / "leaves.npz", {f"arr_{i}": array for i, array in enumerate(raw)}
        )

    def restore(self, directory, args: "_LeavesArgs | None" = None) -> Saved:
        about = limits.read_json(Path(directory) / "about.json")
        with (directory / "leaves.npz").open("rb") as file, files.open_npz(file) as arrays:
            raw = [arrays[f"arr_{i}"].tobytes() for i in range(len(about["paths"]))]
        if [zlib.crc32(content) for content in raw] != about["crc32"]:
            raise UserError("its checksums do not match")
        leaves = [
            np.frombuffer(content, jnp.dtype(dtype)).reshape(shape)
            for content, dtype, shape in zip(raw, about["dtypes"], about["shapes"], strict=True)
        ]
        return Saved(about["job"], about["step"], about["finished"], about["paths"], leaves)


@ocp.args.register_with_handler(_LeavesHandler, for_save=True, for_restore=True)
@dataclass
class _LeavesArgs(ocp.args.CheckpointArgs):
    """What Orbax hands to the handler."""

    saved: Saved | None = None


def leaf_name(key: Any) -> str:
    """Returns what a key on the way to a leaf is saved as: a dictionary's key, a field or index."""
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))


def save(manager: ocp.CheckpointManager, job: str, step: int, tree: Any, finished: bool) -> None:
    """Saves a tree of numpy arrays under its step, as the state of a part of a training.

    Raises:
        OSError: it cannot be written; earlier checkpoints stay.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    paths = [[leaf_name(key) for key in path] for path, _ in leaves]
    saved = Saved(job, step, finished, paths, [leaf for _, leaf in leaves])
    files.announce("write", Path(manager.directory) / str(step))
    try:
        manager.save(step, args=_LeavesArgs(saved))
    except OSError as error:
        raise OSError(
            error.errno, f"checkpoint not saved: {error.strerror}", str(manager.directory)
        ) from error


def load_latest(manager: ocp.CheckpointManager, job: str, at_most: int) -> Saved | None:
    """Reads the last intact checkpoint up to step `at_most`; deletes later and damaged ones.

    Args:
        manager: of the folder.
        job: id of the part of a training whose state it must be.
        at_most: the step.

    Warns:
        UserWarning: for each that is damaged or of another job, with what was wrong.
    """
    for step in sorted(manager.all_steps(), reverse=True):
        if step <= at_most:
            try:
                saved = manager.restore(step, args=_LeavesArgs())
                if (saved.job, saved.step) != (job, step):
                    raise UserError("it is of another training or step")
                return saved
            # Broad on purpose: a damaged zip, JSON or folder of Orbax's raises anything from
            # BadZipFile to KeyError, and all of it means the same; the warning says what it was.
            except Exception as error:
                reason = repr(error)[:200]  # one line, and not empty where the message is
                warnings.warn(
                    f"checkpoint of step {step} in {manager.directory} is damaged ({reason}); "
                    "going back to an earlier one",
                    UserWarning,
                    stacklevel=2,
                )
        manager.delete(step)
    return None

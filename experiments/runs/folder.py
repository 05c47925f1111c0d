"""The run folder: where a run's files live, and how each is read and written."""

import importlib.metadata
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import xarray as xr

from seedmap import files, limits
from seedmap.cores import usable_cores
from seedmap.errors import UserError
from seedmap.experiments.checkpoints.orbax_arrays import dotted, open_arrays
from seedmap.experiments.runs.names import (
    BARRIERS as BARRIERS,
    BASELINES as BASELINES,
    CHECKPOINT as CHECKPOINT,
    CONFIG as CONFIG,
    FIGURES as FIGURES,
    FORECAST as FORECAST,
    HMM as HMM,
    IMPORT as IMPORT,
    IMPORTED as IMPORTED,
    LOG as LOG,
    MAPS as MAPS,
    MEASURED as MEASURED,
    METRICS as METRICS,
    NOISE as NOISE,
    NOISE_MAP as NOISE_MAP,
    PREDICTIONS as PREDICTIONS,
    PUBLISHED as PUBLISHED,
    REPORT as REPORT,
    STABILITY as STABILITY,
    SUMMARY as SUMMARY,
    SWEEP as SWEEP,
    TRAINING as TRAINING,
)
from seedmap.experiments.runs.netcdf import check_netcdf, load_netcdf, write_netcdf
from seedmap.identity import CHECKSUM, check_content, identify
from seedmap.lock import SERVICE
from seedmap.timings import Timings
from seedmap.transaction import settled, transaction

# Variables of the environment by which the same program may compute other bits.
ARITHMETIC = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NPROC", "OMP_NUM_THREADS", "NVIDIA_TF32_OVERRIDE")
VERSIONED = ("seedmap", "jax", "jaxlib", "flax", "optax", "dynamax", "orbax-checkpoint", "numpy")
FILES = (CONFIG, METRICS, LOG, SWEEP, STABILITY, MAPS, SUMMARY, REPORT, FORECAST, BASELINES, *HMM)
FILES += (PREDICTIONS, BARRIERS, NOISE, MEASURED)
OWN = {*FILES, PUBLISHED, FIGURES, CHECKPOINT, TRAINING, NOISE_MAP}  # and drafts of them
FROM_MAP = (SUMMARY, REPORT, FIGURES)  # what a new fit makes stale
_OURS = {CONFIG: ("versions", "seedmap"), IMPORT: ("pattern",)}  # keys that tell our files


def check_free(folder: Path, overwrite: bool) -> None:
    """Checks that a run may be written to a folder; changes nothing.

    Args:
        folder: where.
        overwrite: whether a run that is there may be replaced. Anything else there never is.

    Raises:
        UserError: the folder is a file, holds a run and `overwrite` is false, or holds something
            that is not a run.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out: {folder} is a file; name a folder that does not exist yet")
    settled(folder)
    if is_empty(folder):
        return
    names = sorted(entry.name for entry in folder.iterdir())
    foreign = [name for name in names if files.without_draft(name) not in {*OWN, SERVICE}]
    if foreign:
        raise UserError(
            f"--out: {folder} holds {foreign[0]}, which is not a seedmap run's; name another folder"
        )
    if not (_has(folder / CONFIG, *_OURS[CONFIG]) or can_resume(folder)):
        raise UserError(
            f"--out: {folder} is no seedmap run, or its {CONFIG} is damaged; name another folder"
        )
    if not overwrite:
        what, how = "another run", "--overwrite"
        if (folder / TRAINING).exists():
            what, how = "a training cut short", "--resume to continue it, or --overwrite"
        elif _has(folder / CONFIG, "noise") and not (folder / NOISE).exists():
            what, how = "a study not measured yet", "--resume to continue it, or --overwrite"
        raise UserError(
            f"--out: {folder} holds {what}; name another folder, or add {how} to replace it"
        )


def _names(folder: Path) -> set[str]:
    """Lists what a folder holds, drafts by the names of their files."""
    return {files.without_draft(entry.name) for entry in folder.iterdir()} - {SERVICE}


def is_empty(folder: Path) -> bool:
    """Tells whether a folder is missing or holds nothing, but for what a kill left in making it.

    That is a training without a save point, beside which former versions left `config.json`.
    """
    if not folder.is_dir():
        return True
    others = _names(folder) - {TRAINING}
    known = others <= {CONFIG} and _is_ours(folder / CONFIG)
    return known and _is_begun(folder / TRAINING) and not can_resume(folder)


def _is_begun(training: Path) -> bool:
    """Tells whether what may be a training's folder is missing, empty, or one that we began."""
    if not training.is_dir():
        return not os.path.lexists(training)
    ours = all(_is_ours(training / name) for name in _OURS)
    others = {name for name in _names(training) if not _is_only_claimed(training / name)}
    return ours and (others <= {*_OURS} or (training / CONFIG).is_file())


def _is_only_claimed(path: Path) -> bool:
    """Tells whether a folder holds nothing but the lock of whoever is about to write there."""
    return path.is_dir() and all(entry.name == SERVICE for entry in path.iterdir())


def _is_ours(path: Path) -> bool:
    """Tells whether a JSON file is missing, or holds what we write in one of its name."""
    return not os.path.lexists(path) or _has(path, *_OURS[path.name])


def _has(path: Path, *keys: str) -> bool:
    """Tells whether a JSON file has the keys, each in the value of the one before it."""
    try:
        content = limits.read_json(path)
        for key in keys:
            content = content[key]
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def can_resume(folder: Path) -> bool:
    """Tells whether a training or an import in the folder has come to a save point."""
    saved = any((folder / TRAINING).glob("part-*/checkpoints/*/commit_success.txt"))
    return saved or any((folder / TRAINING).glob(f"**/{IMPORTED}"))


def read_json(folder: Path, name: str, made_by: str, fields: Sequence[str] = ()) -> dict[str, Any]:
    """Reads a JSON file of a run folder, a mapping with at least the given fields.

    Raises:
        UserError: it is missing, is not JSON or lacks a field; the message says which command
            makes it.
    """
    settled(folder)
    path = folder / name
    if not path.is_file():
        raise UserError(f"{folder} has no {name}; make it with `seedmap {made_by}`")
    try:
        content = limits.read_json(path)
    except UserError as error:
        raise UserError(
            f"{path} is not JSON ({error}); make it anew with `seedmap {made_by}`"
        ) from None
    lacking = [name for name in fields if not isinstance(content, dict) or name not in content]
    if lacking:
        raise UserError(f"{path} has no {lacking[0]!r}; make it anew with `seedmap {made_by}`")
    return content


def keep_timings(timings: Timings) -> None:
    """Adds where a command's time went to `config.json` of the folders that it has written to."""
    for folder in timings.folders:
        if (folder / CONFIG).is_file():
            content = read_json(folder, CONFIG, "train")
            spent = {"total": timings.total, "parts": timings.parts}
            spent["programs"] = {name: vars(of) for name, of in timings.programs.items()}
            with transaction(folder, (), "--timings") as draft:
                files.write_json(draft / CONFIG, content | {"timings": spent})


def write_dataset(folder: Path, dataset: xr.Dataset) -> None:
    """Writes `metrics.nc` (NetCDF 4) whole or not at all."""
    write_netcdf(folder / METRICS, dataset)


def check_there(folder: Path, made_by: str = "train") -> None:
    """Raises UserError where a folder holds no run; `made_by` is the command to make it with."""
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder; name a run folder, as `seedmap {made_by}` makes it"
        )
    settled(folder)
    if not (folder / METRICS).is_file():
        raise UserError(f"{folder} has no {METRICS}; make it with `seedmap {made_by}`")


def read_dataset(folder: Path, made_by: str = "train") -> xr.Dataset:
    """Reads `metrics.nc` into memory; `made_by` is the command to make it with.

    Raises:
        UserError: the folder or the file is missing, or the file is not NetCDF, or was changed.
    """
    check_there(folder, made_by)
    try:
        dataset = load_netcdf(folder / METRICS)
    except UserError as error:
        raise UserError(
            f"{folder / METRICS} cannot be read as NetCDF ({error}); train again, or restore it"
        ) from None
    check_netcdf(folder / METRICS, dataset, made_by)
    return dataset


def save_params(folder: Path, params: Any, training_id: str) -> None:
    """Saves the final parameters of all seeds in `checkpoint/` (Orbax, leaves [seed, ...]).

    Raises:
        OSError: they cannot be written; the error names the folder.
    """
    path = folder / CHECKPOINT
    about = {"training_id": training_id, CHECKSUM: identify(None, _named_leaves(params))}
    files.announce("write", path)
    absl = logging.getLogger("absl")  # where Orbax tells of every error at length
    before = absl.level
    try:
        absl.setLevel(logging.CRITICAL)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path.resolve(), params, custom_metadata=about)
    except ValueError as error:  # as TensorStore says what the system refused
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None
    finally:
        absl.setLevel(before)


def _named_leaves(params: Any) -> dict[str, np.ndarray]:
    """Returns the arrays of a tree under the names that `checkpoint/` has them by."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {dotted(path): np.asarray(leaf) for path, leaf in leaves}


def params_id(folder: Path) -> str | None:
    """Returns the id of the training that `checkpoint/` is of; None where it carries none.

    Raises:
        UserError: what Orbax writes of it is damaged.
    """
    return _about_params(folder, "training_id")


def _about_params(folder: Path, name: str) -> str | None:
    """Returns what was written of `checkpoint/` beside its arrays; None where it was not."""
    path = folder / CHECKPOINT / "_CHECKPOINT_METADATA"
    try:
        return limits.read_json(path)["custom_metadata"].get(name)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or train anew") from None


def load_params(folder: Path, made_by: str = "train") -> Any:
    """Reads the final parameters as numpy arrays, every leaf with a leading seed axis.

    Args:
        folder: the run folder.
        made_by: the command to make it with, for messages.

    Raises:
        UserError: there is no checkpoint in the folder, or it is damaged or was changed.
    """
    path = (folder / CHECKPOINT).resolve()
    if not path.is_dir():
        raise UserError(f"{folder} has no {CHECKPOINT}/; make it with `seedmap {made_by}`")
    try:
        arrays = open_arrays(path)
        limits.check_tensors(path, {n: (a.shape, a.dtype.itemsize) for n, a in arrays.items()})
        # Not of a Checkpointer, which warns of what is not there.
        with closing(ocp.PyTreeCheckpointHandler()) as handler:
            tree = handler.metadata(path).tree
        read = jax.tree_util.tree_map_with_path(lambda keys, _: arrays[dotted(keys)].read(), tree)
    # Broad on purpose: a damaged folder of Orbax's raises anything from AttributeError to what its
    # storage library says, and all of it means the same.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or repr(error)
        raise UserError(
            f"{path} is damaged and cannot be read ({reason}); restore it, or train anew"
        ) from None
    check_content(path, _named_leaves(read), _about_params(folder, CHECKSUM), "train anew")
    return read


def git_commit() -> str | None:
    """Returns the commit of the source tree that tracks this module; None without a checkout."""
    source = Path(__file__)

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=source.parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", source.name)  # fails where site-packages holds us
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def environment() -> dict[str, Any]:
    """Returns versions, devices, what bears on arithmetic and the commit, for `config.json`."""
    devices = jax.devices()
    return {
        "versions": {name: importlib.metadata.version(name) for name in VERSIONED},
        "device": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "cpu_cores": os.cpu_count(),
            "usable_cores": usable_cores(),
        },
        "variables": {name: os.environ[name] for name in ARITHMETIC if name in os.environ},
        "git_commit": git_commit(),
        **command(),
    }


def command() -> dict[str, str]:
    """Returns the `seedmap` command that runs, as it can be typed; nothing of another program."""
    program, *arguments = sys.argv or [""]
    if "seedmap" not in (Path(program).name, Path(program).parent.name):  # python -m seedmap
        return {}
    return {"command": shlex.join(["seedmap", *arguments])}

"""Readers of checkpoint files: safetensors, PyTorch, Orbax, npz; one tensor at a time, as float32.

    with open_checkpoint(path) as checkpoint:
        checkpoint.shapes                  # name -> shape, nothing read yet
        checkpoint.read("fc.weight")       # float32

Nothing is unpickled but what PyTorch's own restricted loader admits (tensors and plain containers).
"""

import json
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seedmap import limits
from seedmap.errors import UserError
from seedmap.experiments.checkpoints.orbax_arrays import METADATA, open_arrays
from seedmap.experiments.checkpoints.safetensors_files import (
    SMALL,
    Opened,
    Tensor,
    damaged,
    open_safetensors,
)
from seedmap.experiments.datasets.unpickle import UnpicklingError
from seedmap.files import open_npz

SAFETENSORS = (".safetensors",)
TORCH = (".bin", ".pt", ".pth")
SUFFIXES = (*SAFETENSORS, *TORCH, ".npz")
# What a folder holds on the hub, in the order `transformers` looks for it.
HUB_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
STATE_DICTS = ("state_dict", "model_state_dict", "model", "module")
"""Where training scripts keep the weights of a .pt file that holds more; the first one there."""


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint.

    Attributes:
        path: what was opened.
        shapes: name of each tensor to its shape.
        read: name to the tensor, float32, read anew each time and not kept.
        settings: content of the config.json beside the weights; empty where there is none.
        tied: name of a tensor that is stored once with others -> the first name of it.
        absent: name of a tensor that an index lists and no file holds -> what to say of it.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    settings: Mapping[str, Any]
    tied: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def open_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """Opens a checkpoint file, or a folder that holds one.

    Args:
        path: a .safetensors, .bin, .pt, .pth or .npz file, the .index.json of a sharded one, a
            folder with one of these (`HUB_FILES` first), or an Orbax folder.

    Raises:
        UserError: what is there is not a checkpoint, is damaged, holds Python objects that could
            run code, or needs a library that is not installed.
    """
    source = locate(path)
    with ExitStack() as stack:
        opened = _open(source, stack)
        files = source.parent if source.suffix == ".json" else source
        limits.check_tensors(files, opened.tensors)

        def read_float(name: str) -> np.ndarray:
            return as_float32(opened.read(name), source, name)

        shapes = {name: tensor.shape for name, tensor in opened.tensors.items()}
        settings = _settings(source)
        yield Checkpoint(path, shapes, read_float, settings, opened.tied, opened.absent)


def check_whole(path: Path) -> None:
    """Refuses a checkpoint that is not there whole, as far as that shows without reading it.

    Raises:
        UserError: it holds no weights yet, a part is missing, or a file is cut short.
    """
    source = locate(path)
    if source.suffix in TORCH:  # which may be of the old format, read whole to be opened
        with source.open("rb") as file:
            if file.read(4) == b"PK\x03\x04" and not zipfile.is_zipfile(source):
                raise damaged(source, "a PyTorch file", "a zip file cut short")
        return
    with ExitStack() as stack:
        _open(source, stack)


def _open(source: Path, stack: ExitStack) -> Opened:
    if source.is_dir():
        return _open_orbax(source)
    if source.suffix == ".json":
        return _open_sharded(source, stack)
    if source.suffix in SAFETENSORS:
        return open_safetensors(source)
    if source.suffix in TORCH:
        return _open_torch(source)
    return _open_npz(source, stack)


def locate(path: Path) -> Path:
    """Finds the file, or Orbax folder, with the weights of a checkpoint.

    Raises:
        UserError: nothing there is a checkpoint, or several files are and none is named as on
            the hub.
    """
    if path.is_file():
        if path.suffix in SUFFIXES or path.name.endswith(".index.json"):
            return path
        raise UserError(f"{path} is no checkpoint; expected {', '.join(SUFFIXES)} or a folder")
    if not path.is_dir():
        raise UserError(f"{path} does not exist; it may have been moved since the import began")
    for name in HUB_FILES:
        if (path / name).is_file():
            return path / name
    entries = sorted(path.iterdir())
    weights = [entry for entry in (path, *entries) if (entry / METADATA).is_file()]
    weights = weights or [e for e in entries if e.suffix in SUFFIXES and e.is_file()]
    if len(weights) != 1:
        names = ", ".join(entry.name for entry in (weights or entries)[:8]) or "nothing"
        raise UserError(
            f"{path} holds {names}; expected one of {', '.join(HUB_FILES)}, an Orbax folder, or "
            f"one file {', '.join(SUFFIXES)}: make the pattern name the file"
        )
    return weights[0]


def fingerprint(path: Path) -> int:
    """Computes a number that changes when a checkpoint's files do (names, sizes, times)."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) or [path]
    stats = [(str(file.relative_to(path.parent)), file.stat()) for file in files]
    identity = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return zlib.crc32(json.dumps(identity).encode())


def weight_bytes(path: Path) -> int:
    """Returns the size of a checkpoint's weights on disk.

    Raises:
        UserError: as `locate`.
    """
    source = locate(path)
    if source.is_dir():
        return sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
    if source.suffix != ".json":
        return source.stat().st_size
    kinds = SAFETENSORS if source.name.startswith("model") else TORCH
    return sum(file.stat().st_size for file in source.parent.iterdir() if file.suffix in kinds)


def _settings(source: Path) -> dict[str, Any]:
    path = source.parent / "config.json"
    if source.is_dir() or not path.is_file():
        return {}
    try:
        return dict(limits.read_json(path))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a JSON object ({error}); restore or remove it") from None


def as_float32(array: np.ndarray, source: Path, name: str) -> np.ndarray:
    """Returns floating numbers as float32.

    Raises:
        UserError: they are no floating numbers; the message names the source and the tensor.
    """
    if array.dtype.kind != "f" and array.dtype not in SMALL:
        raise UserError(
            f"{source}: {name!r} has dtype {array.dtype}, expected floating numbers; cover it by a "
            'rule with role = "ignore" (--rules)'
        )
    return array.astype(np.float32, copy=False)


def _missing(path: Path, library: str, package: str) -> UserError:
    return UserError(f"{path} needs {library} to be read; install it: pip install {package}")


def _open_torch(path: Path) -> Opened:
    try:
        import torch
    except ImportError:
        raise _missing(path, "torch", "torch") from None
    content = _load_torch(path, torch)
    state = _state_dict(content, path, torch)
    tensors = {name: _torch_tensor(path, name, tensor) for name, tensor in state.items()}

    def read(name: str) -> np.ndarray:
        tensor = state[name].detach()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()

    return Opened(tensors, read, _tied(state))


def _tied(state: Mapping[str, Any]) -> dict[str, str]:
    """Finds tensors that are one and the same in memory."""
    first: dict[Any, str] = {}
    tied = {}
    for name, tensor in state.items():
        same = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if tensor.numel() and first.setdefault(same, name) != name:
            tied[name] = first[same]
    return tied


def _torch_tensor(path: Path, name: str, tensor: Any) -> Tensor:
    """Describes a tensor; one that repeats a few stored numbers without end is refused."""
    size = limits.size_of(tuple(tensor.shape), tensor.element_size())
    dense = str(tensor.layout) == "torch.strided" and not tensor.is_meta
    stored = tensor.untyped_storage().nbytes() if dense else 0
    if size > stored:
        raise damaged(path, f"{size} bytes of {name!r}", f"{stored} stored")
    return Tensor(tuple(tensor.shape), tensor.element_size())


def _load_torch(path: Path, torch: Any) -> Any:
    """Maps the content of a PyTorch file, not read yet; tensors and plain containers only."""
    with path.open("rb") as file:
        begin = file.read(4)
    is_zip = zipfile.is_zipfile(path)
    if not is_zip and begin[:1] != b"\x80":  # no zip, and no pickle as PyTorch wrote before 1.6
        kind = "a zip file cut short" if begin == b"PK\x03\x04" else f"one that begins {begin!r}"
        raise damaged(path, "a PyTorch file", f"{path.stat().st_size} bytes, {kind}")
    if not is_zip:
        warnings.warn(
            f"{path} is of PyTorch's old format, which is read whole; save it anew with torch.save "
            "to have it read a matrix at a time",
            stacklevel=2,
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except UnpicklingError as error:
        lines = str(error).splitlines()
        about = next(
            (line.strip() for line in lines if "GLOBAL" in line or "Unsupported" in line), ""
        )
        raise UserError(
            f"{path} is refused: it holds Python objects beside tensors, which could run code "
            f"({about.split('. ')[0] or 'not admitted by weights_only'}); save its state_dict() "
            "alone"
        ) from None
    # Broad on purpose: a damaged file makes PyTorch raise anything from KeyError to OSError.
    except Exception as error:
        reason = " ".join(repr(error)[:120].split())
        raise damaged(path, "a PyTorch file", f"one it cannot read ({reason})") from None


def _state_dict(content: Any, path: Path, torch: Any) -> dict[str, Any]:
    def is_state_dict(value: Any) -> bool:
        return (
            isinstance(value, Mapping)
            and len(value) > 0
            and all(isinstance(tensor, torch.Tensor) for tensor in value.values())
        )

    if is_state_dict(content):
        return dict(content)
    inner = content if isinstance(content, Mapping) else {}
    for name in STATE_DICTS:
        if is_state_dict(inner.get(name)):
            return dict(inner[name])
    held = ", ".join(map(repr, list(inner)[:8])) or type(content).__name__
    raise UserError(
        f"{path} holds {held}; expected a state_dict (name to tensor), by itself or as one of "
        f"{', '.join(map(repr, STATE_DICTS))}: save model.state_dict()"
    )


def _open_npz(path: Path, stack: ExitStack) -> Opened:
    try:
        opened = stack.enter_context(path.open("rb"))
        file = stack.enter_context(open_npz(opened))
        members = {name.replace("/", "."): name for name in file.files}
        tensors = {
            name: Tensor(shape, dtype.itemsize)
            for name, member in members.items()
            for shape, dtype in [limits.npy_header(file.zip, f"{member}.npy")]
        }
    except (ValueError, zipfile.BadZipFile, EOFError, OSError, KeyError) as error:
        size = path.stat().st_size
        raise damaged(path, "an npz file", f"{size} bytes it cannot read ({error})") from None

    def read(name: str) -> np.ndarray:
        try:
            return file[members[name]]
        except (ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise damaged(path, f"an array as {name!r}", f"what cannot be read ({error})") from None

    return Opened(tensors, read)


def _open_sharded(path: Path, stack: ExitStack) -> Opened:
    try:
        names: dict[str, str] = dict(limits.read_json(path)["weight_map"])
        valid = all(isinstance(file, str) and Path(file).name == file for file in names.values())
    except (ValueError, KeyError, TypeError):
        raise damaged(path, "JSON with a weight_map", "something else") from None
    if not valid:
        raise damaged(path, "names of shards beside it", "others")
    shards: dict[str, Opened] = {}
    for file in sorted(set(names.values())):
        shard = path.parent / file
        if shard.suffix not in (*SAFETENSORS, *TORCH):
            raise damaged(path, "names of shards beside it", repr(file))
        if not shard.is_file():
            present = len(list(path.parent.glob(f"*{shard.suffix}")))
            raise UserError(
                f"{shard} is missing: {path.name} names {len(set(names.values()))} shards, "
                f"{present} are there; copy the rest"
            )
        shards[file] = _open(shard, stack)
    order = sorted(names, key=lambda name: (names[name], name))  # one shard after the other
    tensors = {
        name: shards[names[name]].tensors[name]
        for name in order
        if name in shards[names[name]].tensors
    }
    absent = {
        name: str(damaged(path.parent / file, f"{name!r}, as {path.name} says", "no such tensor"))
        for name, file in names.items()
        if name not in tensors
    }
    return Opened(tensors, lambda name: shards[names[name]].read(name), absent=absent)


def _open_orbax(folder: Path) -> Opened:
    try:
        arrays = open_arrays(folder)
    except ValueError as error:
        raise damaged(folder, "an Orbax checkpoint", _cannot_read(error)) from None
    wrapped = "params." if all(name.startswith("params.") for name in arrays) else ""
    arrays = {name.removeprefix(wrapped): array for name, array in arrays.items()}
    tensors = {name: Tensor(array.shape, array.dtype.itemsize) for name, array in arrays.items()}

    def read(name: str) -> np.ndarray:
        try:
            return arrays[name].read()
        except ValueError as error:
            raise damaged(folder, f"{name!r} whole", _cannot_read(error)) from None

    return Opened(tensors, read)


def _cannot_read(error: ValueError) -> str:
    return f"what cannot be read ({' '.join(str(error).split())[:120]})"

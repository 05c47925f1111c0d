"""Readers of checkpoint files: safetensors, PyTorch, Orbax, npz; one tensor at a time, as float32.

    with open_checkpoint(path) as checkpoint:
        checkpoint.shapes                  # name -> shape, nothing read yet
        checkpoint.read("fc.weight")       # float32

Nothing is unpickled but what PyTorch's own restricted loader admits (tensors and plain containers).
"""

import json
import math
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from seedmap import limits
from seedmap.errors import UserError
from seedmap.experiments.checkpoints.orbax_arrays import METADATA, open_arrays
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
_SMALL = tuple(
    np.dtype(kind) for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
)
"""Floating numbers that NumPy itself does not have."""
_SAFETENSORS_TYPES = {
    **{f"F{8 * size}": f"f{size}" for size in (2, 4, 8)},
    **dict(zip(("BF16", "F8_E4M3", "F8_E5M2"), _SMALL, strict=True)),
    **{f"{kind.upper()}{8 * size}": f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)},
    "BOOL": "?",
}
_LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the format's own library."""
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
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    settings: Mapping[str, Any]


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
        tensors, read = _open(source, stack)
        files = source.parent if source.suffix == ".json" else source
        limits.check_tensors(files, tensors)

        def read_float(name: str) -> np.ndarray:
            return as_float32(read(name), source, name)

        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        yield Checkpoint(path, shapes, read_float, _settings(source))


class Tensor(NamedTuple):
    """A tensor that is not read yet: its shape, and the bytes of an entry."""

    shape: tuple[int, ...]
    itemsize: int


class _Place(NamedTuple):
    """Where a tensor is among the data of a .safetensors file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int


Opened = tuple[dict[str, Tensor], Callable[[str], np.ndarray]]


def _open(source: Path, stack: ExitStack) -> Opened:
    if source.is_dir():
        return _open_orbax(source)
    if source.suffix == ".json":
        return _open_sharded(source, stack)
    if source.suffix in SAFETENSORS:
        return _open_safetensors(source)
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
    if array.dtype.kind != "f" and array.dtype not in _SMALL:
        raise UserError(
            f"{source}: {name!r} has dtype {array.dtype}, expected floating numbers; cover it by a "
            'rule with role = "ignore" (--rules)'
        )
    return array.astype(np.float32, copy=False)


def _damaged(path: Path, expected: str, actual: str) -> UserError:
    return UserError(f"{path} is damaged: expected {expected}, found {actual}; copy it anew")


def _open_safetensors(path: Path) -> Opened:
    """Opens a file of which the header says, in JSON, where in it each tensor is."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise _damaged(path, f"a header of {length} bytes", f"{size} bytes in all")
        if length > _LONGEST_HEADER:
            raise _damaged(path, f"a header of at most {_LONGEST_HEADER} bytes", str(length))
        header = file.read(length)
    try:
        entries = dict(limits.parse_json(header.decode()))
        entries.pop("__metadata__", None)
        limits.check_count("the header", len(entries))
        places = {name: _place(name, entry) for name, entry in entries.items()}
    except (ValueError, TypeError) as error:
        raise _damaged(path, "a JSON header of tensors", str(error)) from None
    end = 0
    for name, place in sorted(places.items(), key=lambda item: item[1].begin):
        if place.begin != end:
            raise _damaged(path, f"{name!r} at {end}, where another ends", str(place.begin))
        end += limits.size_of(place.shape, place.dtype.itemsize)
    if size != 8 + length + end:
        raise _damaged(path, f"{8 + length + end} bytes", f"{size}")

    def read(name: str) -> np.ndarray:
        dtype, shape, begin = places[name]
        count = math.prod(shape)
        return np.fromfile(path, dtype, count, offset=8 + length + begin).reshape(shape)

    return {name: Tensor(place.shape, place.dtype.itemsize) for name, place in places.items()}, read


def _place(name: str, entry: Any) -> _Place:
    """Returns what the header of a .safetensors file says of a tensor.

    Raises:
        UserError: it is not as the format has it.
    """
    try:
        code, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        whole = False
    if not whole:
        raise UserError(f"no dtype, shape and data_offsets (whole numbers) of {name!r}")
    if not isinstance(code, str) or code not in _SAFETENSORS_TYPES:
        raise UserError(
            f"{name!r} of dtype {code!r}, which is none of {', '.join(_SAFETENSORS_TYPES)}"
        )
    dtype = np.dtype(_SAFETENSORS_TYPES[code]).newbyteorder("<")
    if limits.size_of(tuple(shape), dtype.itemsize) != end - begin:
        raise UserError(f"{name!r} of {code} {shape} in {end - begin} bytes")
    return _Place(dtype, tuple(shape), begin)


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

    return tensors, read


def _torch_tensor(path: Path, name: str, tensor: Any) -> Tensor:
    """Describes a tensor; one that repeats a few stored numbers without end is refused."""
    size = limits.size_of(tuple(tensor.shape), tensor.element_size())
    dense = str(tensor.layout) == "torch.strided" and not tensor.is_meta
    stored = tensor.untyped_storage().nbytes() if dense else 0
    if size > stored:
        raise _damaged(path, f"{size} bytes of {name!r}", f"{stored} stored")
    return Tensor(tuple(tensor.shape), tensor.element_size())


def _load_torch(path: Path, torch: Any) -> Any:
    """Maps the content of a PyTorch file, not read yet; tensors and plain containers only."""
    with path.open("rb") as file:
        begin = file.read(4)
    is_zip = zipfile.is_zipfile(path)
    if not is_zip and begin[:1] != b"\x80":  # no zip, and no pickle as PyTorch wrote before 1.6
        kind = "a zip file cut short" if begin == b"PK\x03\x04" else f"one that begins {begin!r}"
        raise _damaged(path, "a PyTorch file", f"{path.stat().st_size} bytes, {kind}")
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
        raise _damaged(path, "a PyTorch file", f"one it cannot read ({reason})") from None


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
        raise _damaged(path, "an npz file", f"{size} bytes it cannot read ({error})") from None

    def read(name: str) -> np.ndarray:
        try:
            return file[members[name]]
        except (ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise _damaged(
                path, f"an array as {name!r}", f"what cannot be read ({error})"
            ) from None

    return tensors, read


def _open_sharded(path: Path, stack: ExitStack) -> Opened:
    try:
        names: dict[str, str] = dict(limits.read_json(path)["weight_map"])
        whole = all(isinstance(file, str) and Path(file).name == file for file in names.values())
    except (ValueError, KeyError, TypeError):
        raise _damaged(path, "JSON with a weight_map", "something else") from None
    if not whole:
        raise _damaged(path, "names of shards beside it", "others")
    shards: dict[str, Opened] = {}
    for file in sorted(set(names.values())):
        shard = path.parent / file
        if shard.suffix not in (*SAFETENSORS, *TORCH):
            raise _damaged(path, "names of shards beside it", repr(file))
        if not shard.is_file():
            present = len(list(path.parent.glob(f"*{shard.suffix}")))
            raise UserError(
                f"{shard} is missing: {path.name} names {len(set(names.values()))} shards, "
                f"{present} are there; copy the rest"
            )
        shards[file] = _open(shard, stack)
    for name, file in names.items():
        if name not in shards[file][0]:
            raise _damaged(path.parent / file, f"{name!r}, as {path.name} says", "no such tensor")
    order = sorted(names, key=lambda name: (names[name], name))  # one shard after the other
    tensors = {name: shards[names[name]][0][name] for name in order}
    return tensors, lambda name: shards[names[name]][1](name)


def _open_orbax(folder: Path) -> Opened:
    try:
        arrays = open_arrays(folder)
    except ValueError as error:
        raise _damaged(folder, "an Orbax checkpoint", _cannot_read(error)) from None
    wrapped = "params." if all(name.startswith("params.") for name in arrays) else ""
    arrays = {name.removeprefix(wrapped): array for name, array in arrays.items()}
    tensors = {name: Tensor(array.shape, array.dtype.itemsize) for name, array in arrays.items()}

    def read(name: str) -> np.ndarray:
        try:
            return arrays[name].read()
        except ValueError as error:
            raise _damaged(folder, f"{name!r} whole", _cannot_read(error)) from None

    return tensors, read


def _cannot_read(error: ValueError) -> str:
    return f"what cannot be read ({' '.join(str(error).split())[:120]})"

"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in the formats they come in.

A data set is in one of
- the official binary version: `data_batch_1.bin` .. `data_batch_5.bin`, `test_batch.bin` (of
  CIFAR-100 `train.bin`, `test.bin`), a record of the label's byte (of CIFAR-100 the coarse one's,
  then the fine one's) and 3072 of the image, channel by channel;
- the official python version: `data_batch_1` .. `data_batch_5`, `test_batch` (`train`, `test`),
  pickles of a dict with `data` and `labels` (`fine_labels`), read without executing any of it;
- images in folders by class: `train/CLASS/*.png` and `test/CLASS/*.png` (or .jpg, .jpeg), classes
  numbered in alphabetical order;
- an archive .npz of JPEG files: `train_jpeg` (all files end to end, bytes), `train_length` (of each
  file), `train_label`, and `test_` ones.
Images that are compressed are decoded only where they are asked for.
"""

import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.datasets.images import Examples, Images, check_images, open_image
from seedmap.experiments.datasets.unpickle import read_pickle
from seedmap.files import open_npz

SHAPE = (32, 32, 3)
PIXELS = 32 * 32 * 3
FILES = {  # number of classes to the official files and how many examples each holds
    10: {
        "train": {f"data_batch_{i}": 10_000 for i in range(1, 6)},
        "test": {"test_batch": 10_000},
    },
    100: {"train": {"train": 50_000}, "test": {"test": 10_000}},
}
SUBFOLDERS = {
    10: ("cifar-10-batches-bin", "cifar-10-batches-py"),
    100: ("cifar-100-binary", "cifar-100-python"),
}
ARCHIVES = {10: "cifar10_jpeg.npz", 100: "cifar100_jpeg.npz"}
SUFFIXES = (".png", ".jpg", ".jpeg")


class Source(NamedTuple):
    """A training or test set whose images are not decoded yet.

    Attributes:
        path: where it is, for messages.
        labels: whole numbers [example].
        decode: rows [n] -> uint8 [n, 32, 32, 3].
    """

    path: Path
    labels: np.ndarray
    decode: Callable[[np.ndarray], np.ndarray]


@lru_cache(maxsize=2)  # decoding takes seconds; a process asks for the same images again
def read_images(
    path: Path, num_classes: int, train_size: int | None = None, test_size: int | None = None
) -> Images:
    """Reads a data set, or a class-balanced subset of it, in any of the formats.

    Args:
        path: a folder in one of the formats, a folder that holds it under its official name, or
            an archive.
        num_classes: 10, or 100 (the fine labels).
        train_size: training images to take, as many of every class as can be, the first in the
            files; None: all.
        test_size: the same of the test images.

    Returns:
        Images in the order of the files.

    Raises:
        UserError: no format is there, a file is missing, damaged or not what it should be, or a
            size is out of range.
        OSError: a file cannot be read.
    """
    sources = find_format(path, num_classes)
    train, test = (sources(split) for split in ("train", "test"))
    return Images(
        _examples(train, num_classes, train_size, "train_size"),
        _examples(test, num_classes, test_size, "test_size"),
    )


def find_format(path: Path, num_classes: int) -> Callable[[str], Source]:
    """Returns the reader of the format at a path: a function of "train" or "test".

    Raises:
        UserError: nothing is there, or none of the formats.
    """
    if path.suffix == ".npz" and path.is_file():
        return lambda split: _archive(path, split)
    if not path.is_dir():
        actual = "another file" if path.exists() else "nothing"
        raise UserError(f"{path}: expected {formats(num_classes)}; found {actual}")
    for folder in (path, *(path / name for name in SUBFOLDERS[num_classes])):
        for suffix, read in ((".bin", _binary), ("", _pickled)):
            if any((folder / f"{name}{suffix}").is_file() for name in _names(num_classes)):
                return lambda split, read=read, folder=folder: read(folder, split, num_classes)
    if (path / "train").is_dir():
        return lambda split: _folders(path / split, num_classes)
    if (path / ARCHIVES[num_classes]).is_file():
        return lambda split: _archive(path / ARCHIVES[num_classes], split)
    names = sorted(entry.name for entry in path.iterdir())
    listed = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    raise UserError(f"{path}: expected {formats(num_classes)}; found {listed or 'an empty folder'}")


def formats(num_classes: int) -> str:
    """Describes the formats that are read."""
    first = next(iter(_names(num_classes)))
    return (
        f"the unpacked official files of CIFAR-{num_classes} (binary: {first}.bin ..., python: "
        f"{first} ...), images by class (train/CLASS/*.png, test/CLASS/*.png), or "
        f"{ARCHIVES[num_classes]}"
    )


def balanced_rows(labels: np.ndarray, size: int | None) -> np.ndarray:
    """Returns rows of a split with as many examples of every class as can be, in their order.

    The first of every class, then the second, and so on until there are enough.

    Args:
        labels: whole numbers [example].
        size: how many; None: all.
    """
    if size is None:
        return np.arange(len(labels))
    by_class = np.argsort(labels, kind="stable")
    _, counts = np.unique(labels, return_counts=True)
    rank = np.empty(len(labels), int)
    rank[by_class] = np.concatenate([np.arange(count) for count in counts])
    return np.sort(np.lexsort((labels, rank))[:size])


def _examples(source: Source, num_classes: int, size: int | None, name: str) -> Examples:
    total = len(source.labels)
    if size is not None and not 1 <= size <= total:
        raise UserError(
            f"{name} is {size}; {source.path} allows 1 to {total}, or None for all of them"
        )
    # Labels are checked before they choose rows; none of the images is needed for that.
    blank = np.broadcast_to(np.uint8(0), (total, *SHAPE))
    check_images(source.path, blank, source.labels, SHAPE, num_classes)
    rows = balanced_rows(source.labels, size)
    images = source.decode(rows)
    return check_images(source.path, images, source.labels[rows], SHAPE, num_classes)


def _names(num_classes: int) -> list[str]:
    return [name for files in FILES[num_classes].values() for name in files]


def _planes_last(flat_NxP: np.ndarray) -> np.ndarray:
    """Rearranges [example, 3072], channel by channel, to [example, 32, 32, 3]."""
    return flat_NxP.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _from_records(folder: Path, images: list[np.ndarray], labels: list[np.ndarray]) -> Source:
    flat_NxP = np.concatenate(images)
    return Source(folder, np.concatenate(labels), lambda rows: _planes_last(flat_NxP[rows]))


def _binary(folder: Path, split: str, num_classes: int) -> Source:
    images, labels = [], []
    num_labels = 1 if num_classes == 10 else 2  # the last one is the fine one
    for name, count in FILES[num_classes][split].items():
        path = _existing(folder / f"{name}.bin")
        size, expected = path.stat().st_size, count * (num_labels + PIXELS)
        if size != expected:
            raise UserError(
                f"{path}: expected {expected} bytes ({count} records of {num_labels + PIXELS}), "
                f"found {size}"
            )
        records = np.frombuffer(path.read_bytes(), np.uint8).reshape(count, -1)
        images.append(records[:, num_labels:])
        labels.append(records[:, num_labels - 1])
    return _from_records(folder, images, labels)


def _pickled(folder: Path, split: str, num_classes: int) -> Source:
    images, labels = [], []
    key = "labels" if num_classes == 10 else "fine_labels"
    for name, count in FILES[num_classes][split].items():
        path = folder / name
        content = read_pickle(_existing(path))
        images.append(_entry(path, content, "data", np.uint8, (count, PIXELS)))
        labels.append(_entry(path, content, key, np.integer, (count,)))
    return _from_records(folder, images, labels)


def _entry(path: Path, content: dict[str, Any], key: str, kind: type, shape: tuple[int, ...]):
    """Returns an array of the pickled dict, of the kind and shape it must have."""
    wanted = f"{'bytes' if kind is np.uint8 else 'whole numbers'} of shape {shape}"
    if key not in content:
        actual = ", ".join(map(str, content)) or "none"
        raise UserError(f"{path}: expected {key!r}, {wanted}; found the entries {actual}")
    value = content[key]
    if isinstance(value, list) and all(type(entry) is int for entry in value):
        value = np.array(value, dtype=int)
    is_array = isinstance(value, np.ndarray)
    if not is_array or not np.issubdtype(value.dtype, kind) or value.shape != shape:
        actual = f"{value.dtype} of shape {value.shape}" if is_array else "other things"
        raise UserError(f"{path}: expected {key!r} to be {wanted}, found {actual}")
    return value


def _folders(folder: Path, num_classes: int) -> Source:
    _existing(folder)
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if len(classes) != num_classes:
        raise UserError(
            f"{folder}: expected a folder for each of {num_classes} classes, found {len(classes)}"
        )
    if folder.name == "test" and classes != (theirs := _class_names(folder.parent / "train")):
        odd = sorted(set(classes) ^ set(theirs))
        raise UserError(f"{folder}: expected the classes of train, found that {odd[0]} differs")
    paths = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    if not paths:
        raise UserError(f"{folder}: expected images ({', '.join(SUFFIXES)}), found none")

    def decode(rows: np.ndarray) -> np.ndarray:
        return np.stack([_decode(paths[row][0], paths[row][0].read_bytes()) for row in rows])

    return Source(folder, np.array([label for _, label in paths]), decode)


def _class_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def _archive(path: Path, split: str) -> Source:
    names = [f"{split}_{what}" for what in ("jpeg", "length", "label")]
    try:
        with path.open("rb") as file, open_npz(file) as archive:
            missing = [name for name in names if name not in archive]
            actual = ", ".join(archive.files)
            content, lengths, labels = (archive[n] for n in names) if not missing else 3 * (None,)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: expected a whole archive of arrays, found: {error}") from None
    if missing:
        raise UserError(f"{path}: expected an array {missing[0]}, found {actual or 'none'}")
    if any(array.ndim != 1 for array in (content, lengths, labels)):
        actual = ", ".join(str(array.shape) for array in (content, lengths, labels))
        raise UserError(f"{path}: expected {', '.join(names)} of one axis each, found {actual}")
    if content.dtype != np.uint8 or not np.issubdtype(lengths.dtype, np.integer):
        raise UserError(
            f"{path}: expected {split}_jpeg of bytes and {split}_length of whole numbers, found "
            f"{content.dtype} and {lengths.dtype}"
        )
    if (lengths < 0).any() or lengths.sum() != content.size or lengths.shape != labels.shape:
        raise UserError(
            f"{path}: expected {labels.size} lengths that sum to the {content.size} bytes of "
            f"{split}_jpeg, found {lengths.size} that sum to {lengths.sum()}"
        )
    ends = np.cumsum(lengths)

    def decode(rows: np.ndarray) -> np.ndarray:
        files = (content[ends[row] - lengths[row] : ends[row]].tobytes() for row in rows)
        return np.stack(
            [
                _decode(f"{path}, {split} image {row}", file)
                for row, file in zip(rows, files, strict=True)
            ]
        )

    return Source(path, labels, decode)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path}: expected it beside the other files of the data set, found none")
    return path


def _decode(name: Path | str, content: bytes) -> np.ndarray:
    return np.asarray(open_image(name, content, (SHAPE[:2],)))

"""The idx files in which MNIST and its kin are published, plain or compressed by gzip.

A file is four bytes (0, 0, type of the entries, number of axes), the length of each axis as a
big-endian uint32, and the entries, the last axis fastest. MNIST's are unsigned bytes (type 8).
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from seedmap import limits
from seedmap.errors import UserError
from seedmap.experiments.datasets.images import Images, check_images

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
UNSIGNED_BYTE = 8


def read_idx(path: Path, num_axes: int) -> np.ndarray:
    """Reads an idx file of unsigned bytes, compressed if its name ends with .gz.

    Args:
        path: the file.
        num_axes: axes that are expected: 3 for images, 1 for labels.

    Returns:
        uint8, of the shape that the file states; not writable.

    Raises:
        UserError: the file is no such array, or is shorter or longer than it states.
        OSError: it cannot be read.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            return _read(path, file, num_axes)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path}: expected a whole gzip file, found: {error}") from None


def _read(path: Path, file: BinaryIO, num_axes: int) -> np.ndarray:
    start = 4 + 4 * num_axes
    header = file.read(start)
    magic = bytes([0, 0, UNSIGNED_BYTE, num_axes])
    if header[:4] != magic:
        raise UserError(
            f"{path}: expected an idx file of unsigned bytes with axes: {num_axes} (first bytes "
            f"{magic.hex(' ')}), found first bytes {header[:4].hex(' ') or 'none'}"
        )
    if len(header) < start:
        raise UserError(f"{path}: expected a header of {start} bytes, found {len(header)} bytes")
    shape = struct.unpack(f">{num_axes}I", header[4:])
    expected = math.prod(shape)  # Python's integers: stated lengths cannot overflow
    most = limits.most_expanded(path.stat().st_size)
    content = file.read(min(expected, most) + 1024)
    if len(content) != expected:
        raise UserError(
            f"{path}: expected {expected} bytes of entries, as its header says "
            f"({' x '.join(map(str, shape))}), found {len(content)}"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def find_file(folder: Path, name: str) -> Path:
    """Returns the file of this name or, without one, that with .gz appended.

    Raises:
        UserError: neither is in the folder.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    files = sorted(entry.name for entry in folder.iterdir())
    listed = ", ".join(files[:6]) + (", ..." if len(files) > 6 else "")
    raise UserError(
        f"{folder}: expected a file {name} or {name}.gz, found {listed or 'an empty folder'}"
    )


def read_images(
    folder: Path, shape: tuple[int, int, int] = (28, 28, 1), num_classes: int = 10
) -> Images:
    """Reads a data set in MNIST's four files.

    Args:
        folder: where `FILES` are, each with or without .gz.
        shape: rows, columns and channels (1) of an image.
        num_classes: labels must lie in 0 .. num_classes - 1.

    Raises:
        UserError: a file is missing or is not what it should be: see `read_idx`, `check_images`.
        OSError: one cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of idx files, found none")
    paths = {split: [find_file(folder, name) for name in names] for split, names in FILES.items()}
    examples = {}
    for split, (images_path, labels_path) in paths.items():
        images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
        examples[split] = check_images(
            images_path, images[..., None], labels, shape, num_classes, labels_path
        )
    return Images(**examples)

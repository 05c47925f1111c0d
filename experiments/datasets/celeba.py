"""CelebA (Liu et al. 2015): faces with 40 binary attributes, in its published layout.

A folder holds
- `img_align_celeba/000001.jpg` ...: aligned faces of 178 x 218 pixels, or already of 128 x 128;
- `list_attr_celeba.txt`: the number of images, the names of the attributes, then for every image
  its file and 1 or -1 for each attribute;
- `list_eval_partition.txt`: for every image its file and 0 (train), 1 (validation, not read) or 2
  (test).
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seedmap import limits
from seedmap.errors import UserError
from seedmap.experiments.datasets.images import Examples, Images, open_image

SIZE = 128  # pixels a side, as in Zhuang et al. 2022
PUBLISHED = (178, 218)
IMAGES = "img_align_celeba"
ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
SPLITS = {"0": "train", "1": "validation", "2": "test"}
_MOST_DIGITS = 10  # of the number of images
GROUPS = {"Male": ("Female", "Male"), "Young": ("Old", "Young")}  # names of its -1 and 1


class Faces(NamedTuple):
    """Faces with one attribute to predict.

    Attributes:
        images: uint8 [face, 128, 128, 3], label 1 where the face has the attribute, else 0.
        groups: Female, Male, Old and Young to bool [test face]; those that have a member.
    """

    images: Images
    groups: dict[str, np.ndarray]


class Listed(NamedTuple):
    """Listed images of a split, with their attributes.

    Attributes:
        files: names of the images.
        lines: number of each one's line in the list, from 1.
        attributes: of those asked for, name to bool [image].
    """

    files: list[str]
    lines: list[int]
    attributes: dict[str, np.ndarray]


def read_celeba(
    folder: Path, attribute: str, train_size: int | None = None, test_size: int | None = None
) -> Faces:
    """Reads the first faces of the official training and test sets, in the order of the list.

    Args:
        folder: in the published layout.
        attribute: name of the one to predict, as the list spells it.
        train_size: number of training faces; None: all.
        test_size: number of test faces; None: all.

    Raises:
        UserError: a file is missing or not what it should be, the list has no such attribute, or a
            size is out of range or its images do not fit into the memory of the machine.
        OSError: a file cannot be read.
    """
    listed = _read_lists(folder, attribute)
    splits = [
        _first(listed[split], size, split, folder)
        for split, size in (("train", train_size), ("test", test_size))
    ]
    check_memory(sum(len(split.files) for split in splits))
    train, test = (_examples(folder, split, attribute) for split in splits)
    groups = {}
    for name, (without, having) in GROUPS.items():
        has = splits[1].attributes[name]
        groups |= {without: ~has, having: has}
    present = {name: group for name, group in groups.items() if group.any()}
    return Faces(Images(train, test), present)


def memory_needed(faces: int) -> int:
    """Returns the bytes of some faces, twice: as read, and on the device (on CPU the same memory).

    49 152 bytes a face: 16.0 GB for the 162 770 training faces, 2.0 GB for the 19 962 test faces.
    """
    return 2 * faces * SIZE * SIZE * 3


def check_memory(faces: int) -> None:
    """Raises UserError where the machine has not the memory for so many faces."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = memory_needed(faces)
    if needed > available:
        raise UserError(
            f"{faces} faces need {needed / 1e9:.1f} GB of memory, of which this machine has "
            f"{available / 1e9:.1f} GB; give a lower --train-size or --test-size"
        )


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path}: expected the file of CelebA's published layout, found none")
    limits.check_whole(path)
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected text, found: {error}") from None


def _read_lists(folder: Path, attribute: str) -> dict[str, Listed]:
    """Returns the listed images by split, with the attribute asked for and the groups'."""
    path = folder / ATTRIBUTES
    wanted = (attribute, *GROUPS)
    names, rows = _head(path, wanted)
    split_of = _read_partition(folder / PARTITION)
    images = {split: [] for split in SPLITS.values()}
    for number, row in enumerate(rows, start=3):
        fields = row.split()
        if len(fields) != len(names) + 1:
            raise UserError(
                f"{path}, line {number}: expected a file and {len(names)} attributes, found "
                f"{len(fields)} fields"
            )
        if fields[0] not in split_of:
            raise UserError(f"{path}, line {number}: {fields[0][:40]} is not in {PARTITION}")
        if Path(fields[0]).name != fields[0]:
            raise UserError(f"{path}, line {number}: expected a file, found {fields[0][:40]!r}")
        values = [_has(path, number, name, fields[names.index(name) + 1]) for name in wanted]
        images[split_of[fields[0]]].append((fields[0], number, *values))
    return {split: _by_column(rows, wanted) for split, rows in images.items()}


def _by_column(images: list[tuple], wanted: tuple[str, ...]) -> Listed:
    """Transposes rows (file, line, attributes) to columns."""
    files, lines, *values = zip(*images, strict=True) if images else [()] * (2 + len(wanted))
    attributes = {name: np.array(of, bool) for name, of in zip(wanted, values, strict=True)}
    return Listed(list(files), list(lines), attributes)


def _head(path: Path, wanted: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Returns the names of the attributes, and the lines of the images."""
    lines = _lines(path)
    count = lines[0].strip() if lines else ""
    if len(lines) < 2 or not (count.isdecimal() and len(count) < _MOST_DIGITS):
        actual = repr(lines[0][:40]) if lines else "an empty file"
        raise UserError(
            f"{path}, line 1: expected the number of images, then the names of the attributes, "
            f"found {actual}"
        )
    names, rows = lines[1].split(), lines[2:]
    limits.check_count(f"{path}, line 2,", len(names), limits.MOST_COLUMNS)
    for name in wanted:
        if name not in names:
            raise UserError(f"{path}, line 2: no attribute {name!r}; it names {', '.join(names)}")
    if len(rows) != int(count):
        raise UserError(
            f"{path}: expected {int(count)} images, as its first line says, found {len(rows)} "
            f"up to line {len(lines)}"
        )
    return names, rows


def _has(path: Path, number: int, name: str, field: str) -> bool:
    if field not in ("1", "-1"):
        raise UserError(f"{path}, line {number}: expected {name} to be 1 or -1, found {field!r}")
    return field == "1"


def _read_partition(path: Path) -> dict[str, str]:
    """Returns the split by file."""
    splits = {}
    for number, line in enumerate(_lines(path), start=1):
        fields = line.split()
        if len(fields) != 2 or fields[1] not in SPLITS:
            raise UserError(
                f"{path}, line {number}: expected a file and 0, 1 or 2, found {line[:40]!r}"
            )
        splits[fields[0]] = SPLITS[fields[1]]
    return splits


def _first(listed: Listed, size: int | None, split: str, folder: Path) -> Listed:
    total = len(listed.files)
    if not total:
        raise UserError(f"{folder / PARTITION}: expected images of the {split} set, found none")
    if size is not None and not 1 <= size <= total:
        raise UserError(f"--{split}-size is {size}; {folder} allows 1 to {total}, or None for all")
    kept = {name: values[:size] for name, values in listed.attributes.items()}
    return Listed(listed.files[:size], listed.lines[:size], kept)


def _examples(folder: Path, listed: Listed, attribute: str) -> Examples:
    images = np.empty((len(listed.files), SIZE, SIZE, 3), np.uint8)
    for i, (file, line) in enumerate(zip(listed.files, listed.lines, strict=True)):
        path = folder / IMAGES / file
        if not path.is_file():
            raise UserError(f"{path}: expected it, as {ATTRIBUTES}, line {line}, names it")
        images[i] = _decode(path)
    return images, listed.attributes[attribute].astype(np.int32)


def _decode(path: Path) -> np.ndarray:
    """Decodes a face to 128 x 128, its sides shrunk unequally, as in Zhuang et al. 2022."""
    picture = open_image(path, path.read_bytes(), (PUBLISHED, (SIZE, SIZE)))
    from PIL import Image

    return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR))

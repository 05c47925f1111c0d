"""Images as every reader returns them, and their checks."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seedmap.errors import UserError

Examples = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Images:
    """A data set of images with its official split.

    Attributes:
        train: (uint8 [example, row, column, channel], int32 [example], classes from 0 on).
        test: the same of the test set.
    """

    train: Examples
    test: Examples


def blank_images(shape: tuple[int, int, int], train_size: int, test_size: int) -> Images:
    """Returns images of zeros, for plans: only their shapes are looked at."""

    def blank(size: int) -> Examples:
        return np.zeros((size, *shape), np.uint8), np.zeros(size, np.int32)

    return Images(blank(train_size), blank(test_size))


def check_images(
    path: Path | str,
    images: np.ndarray,
    labels: np.ndarray,
    shape: tuple[int, int, int],
    num_classes: int,
    labels_path: Path | str | None = None,
) -> Examples:
    """Checks the examples that a reader returns, in the dtypes of `Images`.

    Args:
        path: file they come from, for the messages.
        images: uint8 [example, row, column, channel].
        labels: whole numbers [example].
        shape: rows, columns and channels of an image.
        num_classes: labels must lie in 0 .. num_classes - 1.
        labels_path: the labels' file where it is another one.

    Raises:
        UserError: there is no image, images are of another shape or not of bytes, or labels are
            not as many as images, not whole numbers or out of range.
    """
    labels_path = labels_path or path
    if images.dtype != np.uint8:
        raise UserError(f"{path}: expected images of unsigned bytes, found {images.dtype}")
    if images.ndim != 4 or images.shape[1:] != tuple(shape):
        raise UserError(
            f"{path}: expected images of {_sizes(shape)} (rows x columns x channels), found "
            f"{_sizes(images.shape[1:])}"
        )
    if not len(images):
        raise UserError(f"{path}: expected images, found none")
    if labels.shape != images.shape[:1]:
        raise UserError(
            f"{labels_path}: expected {len(images)} labels, one for each image, found "
            f"{_sizes(labels.shape)}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{labels_path}: expected labels of whole numbers, found {labels.dtype}")
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise UserError(
            f"{labels_path}: expected labels from 0 to {num_classes - 1}, found "
            f"{labels[wrong[0]]} at example {wrong[0]}"
        )
    return images, labels.astype(np.int32)


def open_image(name: Path | str, content: bytes, sizes: Sequence[tuple[int, int]]):
    """Opens a PNG or JPEG file as Pillow's image, in RGB.

    Args:
        name: of the file, for messages.
        content: of the file.
        sizes: (width, height) that it may have.

    Raises:
        UserError: it is damaged, of another format or of another size, or Pillow is not there.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise UserError("images need Pillow: pip install 'seedmap[vision]'") from None
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if image.size in sizes:
                return image.convert("RGB")
            actual = "{} x {} pixels".format(*image.size)
    except UnidentifiedImageError:
        actual = "neither of them"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        actual = " ".join(str(error).split())[:200]
    expected = " or ".join(f"{width} x {height}" for width, height in sizes)
    raise UserError(f"{name}: expected a PNG or JPEG image of {expected} pixels, found: {actual}")


def first_examples(images: Images, train_size: int | None, test_size: int | None) -> Images:
    """Returns the first examples of each set; None: all.

    Raises:
        UserError: a size is below 1 or above what there is.
    """
    return Images(
        _first(images.train, train_size, "train_size"), _first(images.test, test_size, "test_size")
    )


def _first(examples: Examples, size: int | None, name: str) -> Examples:
    total = len(examples[1])
    if size is not None and not 1 <= size <= total:
        raise UserError(f"{name} is {size}; the data set allows 1 to {total}, or None for all")
    return examples[0][:size], examples[1][:size]


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"

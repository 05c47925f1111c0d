"""Readers of image data sets: tiny files in the published formats, right and wrong ones."""

import gzip
import sys

import numpy as np
import pytest

from helpers.image_files import SHAPE, arrays, fake_libraries, idx_bytes, write_mnist
from seedmap.experiments.datasets import hub
from seedmap.experiments.datasets.digits import load_digits
from seedmap.experiments.datasets.idx import FILES, read_idx, read_images
from seedmap.experiments.datasets.images import Images, check_images, first_examples


@pytest.mark.parametrize("compressed", [(), FILES["train"], (*FILES["train"], *FILES["test"])])
def test_idx_files_give_back_what_was_written(tmp_path, compressed):
    found = arrays()
    write_mnist(tmp_path, found, compressed)
    images = read_images(tmp_path, SHAPE)
    for part in FILES:
        pixels, labels = getattr(images, part)
        assert (pixels.dtype, labels.dtype) == (np.uint8, np.int32)
        np.testing.assert_array_equal(pixels[..., 0], found[part][0])
        np.testing.assert_array_equal(labels, found[part][1])


IMAGES, LABELS = FILES["train"]
WRONG = {
    "no magic": (IMAGES, lambda raw: b"PK" + raw[2:], "first bytes 00 00 08 03.*found .* 50 4b 08"),
    "of labels": (IMAGES, lambda raw: raw[:3] + b"\x01" + raw[4:], "axes: 3 .*found .*00 00 08 01"),
    "of floats": (IMAGES, lambda raw: b"\0\0\x0d\x03" + raw[4:], "found first bytes 00 00 0d 03"),
    "empty": (LABELS, lambda raw: b"", "expected an idx file.* found first bytes none"),
    "no header": (IMAGES, lambda raw: raw[:9], "expected a header of 16 bytes, found 9 bytes"),
    "truncated": (IMAGES, lambda raw: raw[:-1], r"expected 84 bytes.*\(7 x 4 x 3\), found 83"),
    "trailing": (LABELS, lambda raw: raw + b"12", r"expected 7 bytes .*\(7\), found 9"),
    "huge": (IMAGES, lambda raw: raw[:4] + 12 * b"\xff", r"expected 79228162458924105385300197375"),
    "shape": (IMAGES, lambda raw: idx_bytes(np.zeros((7, 3, 4))), "images of 4 x 3 x 1 .*3 x 4 x"),
    "none": (IMAGES, lambda raw: idx_bytes(np.zeros((0, 4, 3))), "expected images, found none"),
    "count": (LABELS, lambda raw: idx_bytes(np.zeros(6)), "expected 7 labels,.* found 6"),
    "range": (LABELS, lambda raw: idx_bytes(np.r_[:6, 10]), "from 0 to 9, found 10 at example 6"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_wrong_idx_files_are_named_with_what_was_expected_and_found(tmp_path, case, ending):
    name, spoil, message = WRONG[case]
    write_mnist(tmp_path, arrays())
    path = tmp_path / name
    content = spoil(path.read_bytes())
    path.unlink()
    path = tmp_path / (name + ending)
    path.write_bytes(gzip.compress(content) if ending else content)
    with pytest.raises(ValueError, match=message) as refusal:
        read_images(tmp_path, SHAPE)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-9], lambda raw: b"raw", lambda raw: raw[:12]])
def test_a_broken_gzip_file_is_named(tmp_path, spoil):
    path = tmp_path / "labels.gz"
    path.write_bytes(spoil(gzip.compress(idx_bytes(np.arange(5)))))
    with pytest.raises(ValueError, match=rf"{path}: expected a whole gzip file, found: \w+"):
        read_idx(path, 1)


def test_a_damaged_gzip_file_is_named(tmp_path):
    path = tmp_path / "labels.gz"
    content = bytearray(gzip.compress(idx_bytes(np.arange(200) % 10)))
    content[-7] ^= 1  # of the checksum
    path.write_bytes(content)
    with pytest.raises(ValueError, match="expected a whole gzip file, found: CRC"):
        read_idx(path, 1)


def test_a_missing_file_is_named_with_what_is_there(tmp_path):
    with pytest.raises(ValueError, match="nowhere: expected a folder of idx files, found none"):
        read_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="found an empty folder"):
        read_images(tmp_path)
    write_mnist(tmp_path, arrays(), compressed=FILES["train"])
    (tmp_path / FILES["test"][1]).unlink()
    message = f"expected a file {FILES['test'][1]} or {FILES['test'][1]}.gz, found t10k-images"
    with pytest.raises(ValueError, match=message):
        read_images(tmp_path, SHAPE)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 4, 3, 1)), np.zeros(2, int), "unsigned bytes, found float64"),
        (np.zeros((2, 4, 3), np.uint8), np.zeros(2, int), "of 4 x 3 x 1 .* found 4 x 3"),
        (np.zeros((2, 4, 3, 1), np.uint8), np.zeros((2, 1), int), "2 labels,.* found 2 x 1"),
        (np.zeros((2, 4, 3, 1), np.uint8), np.zeros(2), "whole numbers, found float64"),
        (np.zeros((2, 4, 3, 1), np.uint8), np.array([0, -1]), "found -1 at example 1"),
    ],
)
def test_what_is_not_a_data_set_is_refused(images, labels, message):
    with pytest.raises(ValueError, match=f"^here: .*{message}"):
        check_images("here", images, labels, SHAPE, 10)


def test_the_first_examples():
    images = Images((np.arange(5), np.arange(5)), (np.arange(3), np.arange(3)))
    fewer = first_examples(images, 4, None)
    assert [len(labels) for _, labels in (fewer.train, fewer.test)] == [4, 3]
    np.testing.assert_array_equal(fewer.train[0], [0, 1, 2, 3])
    for sizes, message in (((0, 1), "train_size is 0"), ((5, 4), "test_size is 4; .* 1 to 3")):
        with pytest.raises(ValueError, match=message):
            first_examples(images, *sizes)


def test_digits_are_those_of_scikit_learn_repeated_in_a_margin():
    from sklearn.datasets import load_digits as original

    images, found = load_digits(), original()
    pixels = np.concatenate([images.train[0], images.test[0]])
    labels = np.concatenate([images.train[1], images.test[1]])
    assert pixels.shape == (1797, 28, 28, 1)
    assert len(images.train[1]) == 1500
    np.testing.assert_array_equal(labels, found.target)
    for corner in np.ndindex(3, 3):
        inner = pixels[:, 2 + corner[0] : 26 : 3, 2 + corner[1] : 26 : 3, 0]
        np.testing.assert_allclose(inner, found.images * 255 / 16, atol=0.51)
    assert pixels.sum(dtype=int) == pixels[:, 2:26, 2:26].sum(dtype=int)


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match=r"pip install 'seedmap\[vision\]'"):
        load_digits()


def test_mnist_from_the_hub(monkeypatch):
    from PIL import Image

    written = arrays(shape=(28, 28))
    found = {
        part: {
            "image": [Image.fromarray(image.astype(np.uint8)) for image in pixels],
            "label": labels.tolist(),
        }
        for part, (pixels, labels) in written.items()
    }
    fake_libraries(monkeypatch, found)
    images = hub.load_mnist()
    for part, (pixels, labels) in written.items():
        np.testing.assert_array_equal(getattr(images, part)[0][..., 0], pixels)
        np.testing.assert_array_equal(getattr(images, part)[1], labels)


def test_a_hub_that_does_not_answer_or_a_missing_library_is_told_in_one_line(monkeypatch):
    fake_libraries(monkeypatch, error=ConnectionError("no route\nto host"))
    with pytest.raises(ValueError, match="gives no ylecun/mnist: ConnectionError, no route to"):
        hub.load_mnist()
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="`datasets` is not installed"):
        hub.load_mnist()

"""CIFAR in every format it comes in: the same pixels and labels from each; what is wrong, named."""

import hashlib
import pickle
import shutil

import numpy as np
import pytest

from seedmap.experiments.datasets import cifar
from seedmap.experiments.datasets.unpickle import read_pickle

Image = pytest.importorskip("PIL.Image")

PER_FILE = {"train": 4, "test": 10}


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """Official files of a few records, and no images kept from another test."""
    files = {
        classes: {part: dict.fromkeys(names, PER_FILE[part]) for part, names in parts.items()}
        for classes, parts in cifar.FILES.items()
    }
    monkeypatch.setattr(cifar, "FILES", files)
    cifar.read_images.cache_clear()


def examples(classes=10):
    """Smooth images with an asymmetric pattern in every channel: (pixels, labels) by part."""
    rng = np.random.default_rng(0)
    found = {}
    for part, count in (("train", 20 if classes == 10 else 4), ("test", 10)):
        corners = rng.integers(0, 256, (count, 4, 2, 3))
        images = corners.repeat(8, axis=1).repeat(16, axis=2).astype(np.uint8)
        found[part] = images, (np.arange(count) * 7 % classes).astype(np.int32)
    return found


def split_files(part, classes):
    """What of a part goes into which official file."""
    images, labels = examples(classes)[part]
    names = list(cifar.FILES[classes][part])
    return zip(names, np.split(images, len(names)), np.split(labels, len(names)), strict=True)


def planes(images):
    """[example, 3072], channel by channel, written out as loops."""
    return np.array(
        [
            [
                image[row, column, channel]
                for channel in range(3)
                for row in range(32)
                for column in range(32)
            ]
            for image in images
        ],
        np.uint8,
    )


def write_binary(folder, classes=10):
    for part in ("train", "test"):
        for name, images, labels in split_files(part, classes):
            coarse = [labels // 5] if classes == 100 else []
            columns = [*coarse, labels]
            records = np.column_stack([*columns, planes(images)]).astype(np.uint8)
            (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def write_pickles(folder, classes=10, protocol=2):
    key = b"labels" if classes == 10 else b"fine_labels"
    for part in ("train", "test"):
        for name, images, labels in split_files(part, classes):
            content = {
                b"batch_label": b"a batch",
                b"data": planes(images),
                key: labels.tolist(),
                b"filenames": [b"%d.png" % row for row in range(len(labels))],
            }
            if protocol != 2:  # written anew by Python 3
                content = {name.decode(): value for name, value in content.items()}
            (folder / name).write_bytes(pickle.dumps(content, protocol))
    return folder


def write_folders(folder, suffix="png"):
    for part, (images, labels) in examples().items():
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / part / f"class{label}" / f"{row:02}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, **({} if suffix == "png" else {"quality": 95}))
    return folder


def write_archive(folder, suffix="jpg", **changes):
    """The archive of JPEG files; `changes` replace its arrays."""
    made = write_folders(folder / "made", suffix)
    arrays = {}
    for part, (_, labels) in examples().items():
        paths = [
            made / part / f"class{label}" / f"{row:02}.jpg" for row, label in enumerate(labels)
        ]
        files = [path.read_bytes() for path in paths]
        arrays |= {
            f"{part}_jpeg": np.frombuffer(b"".join(files), np.uint8),
            f"{part}_length": np.array([len(file) for file in files]),
            f"{part}_label": labels,
        }
    shutil.rmtree(made)
    arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
    np.savez(folder / "cifar10_jpeg.npz", **arrays)
    return folder


def digest(images):
    parts = [array for part in (images.train, images.test) for array in part]
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))


def ordered(images):
    """Sorted by pixels: the formats keep examples in different orders."""
    return [
        sorted((image.tobytes(), int(label)) for image, label in zip(*part, strict=True))
        for part in (images.train, images.test)
    ]


WRITERS = {
    "binary": write_binary,
    "pickles of Python 2": write_pickles,
    "pickles of Python 3": lambda folder: write_pickles(folder, protocol=4),
    "pickles of protocol 5": lambda folder: write_pickles(folder, protocol=5),
    "folders": write_folders,
}


@pytest.mark.parametrize("form", WRITERS)
def test_exact_formats_hold_the_same_pixels_and_labels(form, tmp_path):
    images = cifar.read_images(WRITERS[form](tmp_path), 10)
    expected = examples()
    assert images.train[0].dtype == np.uint8
    assert images.train[1].dtype == np.int32
    wanted = type(images)(expected["train"], expected["test"])
    assert ordered(images) == ordered(wanted)
    if form != "folders":
        assert digest(images).digest() == digest(wanted).digest()


@pytest.mark.parametrize("write", [write_binary, write_pickles])
def test_cifar100_gives_the_fine_labels(write, tmp_path):
    folder = tmp_path / next(
        name for name in cifar.SUBFOLDERS[100] if ("binary" in name) == (write is write_binary)
    )
    folder.mkdir()
    write(folder, 100)
    images = cifar.read_images(tmp_path, 100)  # found under its official name
    np.testing.assert_array_equal(images.test[1], np.arange(10) * 7)
    np.testing.assert_array_equal(images.test[0], examples(100)["test"][0])


def test_jpeg_files_are_the_same_from_folders_and_archive(tmp_path):
    for name in ("folders", "archive"):
        (tmp_path / name).mkdir()
    of_folders = cifar.read_images(write_folders(tmp_path / "folders", "jpg"), 10)
    for path in (write_archive(tmp_path / "archive"), tmp_path / "archive/cifar10_jpeg.npz"):
        of_archive = cifar.read_images(path, 10)
        assert ordered(of_folders) == ordered(of_archive)
        expected = examples()
        np.testing.assert_array_equal(of_archive.train[1], expected["train"][1])
        for (images, _), (exact, _) in zip(
            (of_archive.train, of_archive.test), expected.values(), strict=True
        ):
            assert np.abs(images.astype(int) - exact).mean() < 8  # colours are stored at half size


@pytest.mark.parametrize("size", [1, 7, 10, 13, 20])
def test_a_part_is_balanced(size, tmp_path):
    labels = examples()["train"][1]
    rows = cifar.balanced_rows(labels, size)
    counts = np.bincount(labels[rows], minlength=10)
    assert len(set(rows)) == size
    assert (np.diff(rows) > 0).all()
    assert counts.max() - counts.min() <= (size % 10 > 0)
    images = cifar.read_images(write_folders(tmp_path), 10, size, 3)
    assert np.bincount(images.train[1], minlength=10).tolist() == counts.tolist()
    assert len(images.test[1]) == 3


def test_rows_of_an_uneven_set_are_as_balanced_as_can_be():
    np.testing.assert_array_equal(
        cifar.balanced_rows(np.array([2, 2, 2, 0, 1, 2]), 4), [0, 1, 3, 4]
    )


class Touches:
    """Unpickled by Python, it would make a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


HOSTILE = {
    "a call": lambda path: pickle.dumps({b"data": Touches(path)}, 2),
    "a call in a list": lambda path: pickle.dumps({b"labels": [1, Touches(path)]}, 4),
    "os.system": lambda path: b"cos\nsystem\n(S'touch " + str(path).encode() + b"'\ntR.",
    "builtins.eval": lambda path: (
        b"c__builtin__\neval\n(S'open(\"" + str(path).encode() + b'", "w")\'\ntR.'
    ),
    "a dotted name": lambda path: b"\x80\x04cnumpy\ndtype.__init__.__globals__\n.",
    "another of numpy's": lambda path: b"cnumpy\nload\n(S'" + str(path).encode() + b"'\ntR.",
    "an array of objects": lambda path: pickle.dumps({b"data": np.array([{}, []], object)}, 2),
    "no dict": lambda path: pickle.dumps([1, 2], 2),
    "cut short": lambda path: pickle.dumps({b"data": np.zeros(9, np.uint8)}, 2)[:-20],
    "a shape that does not fit": lambda path: pickle.dumps(
        {b"data": np.zeros(16, np.uint8)}, 2
    ).replace(b"K\x10", b"K\x11"),
    "other bytes": lambda path: b"\x00not a pickle",
    "nothing": lambda path: b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_pickle_is_refused_in_one_line_and_does_nothing(kind, tmp_path):
    touched, path = tmp_path / "touched", tmp_path / "data_batch_1"
    path.write_bytes(HOSTILE[kind](touched))
    with pytest.raises(ValueError, match=r"data_batch_1: expected a pickled dict") as caught:
        read_pickle(path)
    assert "\n" not in str(caught.value)
    assert not touched.exists()


def test_the_hostile_pickles_would_have_done_something(tmp_path):
    pickle.loads(HOSTILE["a call"](tmp_path / "touched"))[b"data"].close()
    assert (tmp_path / "touched").exists()


def test_arrays_of_other_types_and_orders_are_read(tmp_path):
    arrays = {
        "c": np.arange(6, dtype=np.int64).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
        "n": 5,
    }
    for protocol in (2, 4, 5):
        (tmp_path / "some").write_bytes(pickle.dumps(arrays, protocol))
        found = read_pickle(tmp_path / "some")
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)


def truncated(folder):
    path = write_binary(folder) / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-5])


def with_label(folder):
    path = write_binary(folder) / "test_batch.bin"
    content = bytearray(path.read_bytes())
    content[0] = 10
    path.write_bytes(content)


def repickled(folder, **changes):
    path = write_pickles(folder) / "data_batch_2"
    content = pickle.loads(path.read_bytes(), encoding="bytes")
    content |= {name.encode(): value for name, value in changes.items()}
    path.write_bytes(pickle.dumps({k: v for k, v in content.items() if v is not None}, 2))


def with_image(folder, content=None, size=(32, 31)):
    path = write_folders(folder) / "train" / "class7" / "01.png"
    if content is None:
        Image.new("RGB", size).save(path)
    else:
        path.write_bytes(content)


WRONG = {
    "no folder": (lambda folder: folder.rmdir(), r"expected the unpacked .*; found nothing"),
    "nothing in it": (lambda folder: None, r"found an empty folder"),
    "something else": (lambda folder: (folder / "x.txt").touch(), r"expected .* found x\.txt"),
    "a file missing": (
        lambda folder: (write_binary(folder) / "data_batch_4.bin").unlink(),
        r"data_batch_4\.bin: expected it beside",
    ),
    "a file cut short": (
        truncated,
        r"data_batch_3\.bin: expected 12292 bytes \(4 records of 3073\), found 12287",
    ),
    "a label out of range": (with_label, r"expected labels from 0 to 9, found 10 at example 0"),
    "no labels": (
        lambda folder: repickled(folder, labels=None),
        r"data_batch_2: expected 'labels'",
    ),
    "labels of text": (
        lambda folder: repickled(folder, labels=["a"] * 4),
        r"expected 'labels' to be whole numbers of shape \(4,\), found other things",
    ),
    "too few labels": (
        lambda folder: repickled(folder, labels=[1, 2]),
        r"whole numbers of shape \(4,\), found int64 of shape \(2,\)",
    ),
    "data of another shape": (
        lambda folder: repickled(folder, data=np.zeros((4, 9), np.uint8)),
        r"expected 'data' to be bytes of shape \(4, 3072\), found uint8 of shape \(4, 9\)",
    ),
    "an image of another size": (with_image, r"01\.png: expected .* found: 32 x 31 pixels"),
    "an image cut short": (
        lambda folder: with_image(folder, b"\x89PNG\r\n\x1a\n\x00\x00"),
        r"01\.png: expected a PNG or JPEG",
    ),
    "a class missing": (
        lambda folder: shutil.rmtree(write_folders(folder) / "test" / "class3"),
        r"test: expected a folder for each of 10 classes, found 9",
    ),
    "classes that differ": (
        lambda folder: (write_folders(folder) / "test/class3").rename(folder / "test/class3b"),
        r"test: expected the classes of train, found that class3 differs",
    ),
    "an array missing": (
        lambda folder: write_archive(folder, test_label=None),
        r"cifar10_jpeg\.npz: expected an array test_label, found train_jpeg",
    ),
    "lengths that do not fit": (
        lambda folder: write_archive(folder, train_length=np.full(20, 7)),
        r"expected 20 lengths that sum to the \d+ bytes of train_jpeg, found 20 that sum to 140",
    ),
    "one number for lengths and labels": (
        lambda folder: write_archive(
            folder,
            train_length=np.array(20),
            train_label=np.array(1),
            train_jpeg=np.zeros(20, "u1"),
        ),
        r"train_length, train_label of one axis each, found \(20,\), \(\), \(\)",
    ),
    "bytes in rows": (
        lambda folder: write_archive(folder, test_jpeg=np.zeros((4, 5), np.uint8)),
        r"test_jpeg, test_length, test_label of one axis each, found \(4, 5\)",
    ),
    "an array of objects": (
        lambda folder: write_archive(folder, train_label=np.array([{}] * 20)),
        r"cifar10_jpeg\.npz: expected a whole archive of arrays",
    ),
    "no archive": (
        lambda folder: (folder / "cifar10_jpeg.npz").write_bytes(b"PK\x03\x04"),
        r"cifar10_jpeg\.npz: expected a whole archive",
    ),
    "an array alone": (
        lambda folder: (
            np.save(folder / "x.npy", np.zeros(3)),
            (folder / "x.npy").rename(folder / "cifar10_jpeg.npz"),
        ),
        r"cifar10_jpeg\.npz: expected a whole archive",
    ),
    "another image in it": (
        lambda folder: write_archive(
            folder, train_jpeg=np.zeros(20, np.uint8), train_length=np.ones(20, int)
        ),
        r"cifar10_jpeg\.npz, train image 0: expected a PNG or JPEG",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named_in_one_line(kind, tmp_path):
    spoil, message = WRONG[kind]
    (tmp_path / "data").mkdir()
    spoil(tmp_path / "data")
    with pytest.raises(ValueError, match=message) as caught:
        cifar.read_images(tmp_path / "data", 10)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "data") in str(caught.value)


def test_a_file_of_no_format_is_named(tmp_path):
    (tmp_path / "README.md").touch()
    with pytest.raises(ValueError, match=r"README\.md: expected .*; found another file"):
        cifar.read_images(tmp_path / "README.md", 10)


@pytest.mark.parametrize(("name", "size"), [("train_size", 21), ("test_size", 0)])
def test_sizes_out_of_range_are_named(name, size, tmp_path):
    with pytest.raises(ValueError, match=f"{name} is {size}; .* allows 1 to"):
        cifar.read_images(write_binary(tmp_path), 10, **{name: size})

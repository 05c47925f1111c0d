"""Hostile data sets, generated: a function for each kind, which writes it and returns its folder.

A case is `name: (make, words)`, as in `helpers.hostile`.
"""

import gzip
import pickle
import struct
import zipfile
from functools import partial

import numpy as np

from helpers.hostile import BOMB, LONG, Runs, half, npy, sparse
from seedmap.experiments.datasets import adult, celeba


def idx(header, data=b"", ending="", pack=bytes):
    def make(folder):
        for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
            (folder / (name + ending)).write_bytes(pack(header + data))
        for name in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
            (folder / name).write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 2) + b"\0\1")
        return folder

    return make


def images(*shape):
    return b"\0\0\x08\x03" + struct.pack(">III", *shape)


def cifar(name, content):
    def make(folder):
        content(folder / name) if callable(content) else (folder / name).write_bytes(content)
        return folder

    return make


def jpeg_terabytes(path):
    with zipfile.ZipFile(path, "w") as file:
        for name in ("jpeg", "length", "label"):
            file.writestr(f"train_{name}.npy", npy("(2000000, 1000000)", "|u1"))


MEMO = pickle.PROTO + b"\x02" + pickle.NONE + pickle.LONG_BINPUT + b"\xff\xff\xff\x07" + pickle.STOP
IDX = {
    "idx: terabytes declared": (idx(images(2**31, 2**10, 2**10)), ["expected 2251799813685248"]),
    "idx: a bomb": (
        idx(images(100 << 10, 32, 32), BOMB, ".gz", partial(gzip.compress, compresslevel=1)),
        ["expected 104857600 bytes"],
    ),
    "idx: half a gzip file": (
        idx(images(2, 28, 28), bytes(1568), ".gz", lambda raw: gzip.compress(raw)[:30]),
        ["whole gzip file"],
    ),
    "idx: another type": (idx(b"\0\0\x0d\x03" + bytes(12)), ["idx file of unsigned bytes"]),
    "idx: nothing": (idx(b""), ["found first bytes none"]),
}
CIFAR = {
    "cifar: a pickle that runs": (cifar("data_batch_1", pickle.dumps(Runs())), ["mkdir"]),
    "cifar: a memo of gigabytes": (cifar("data_batch_1", MEMO), ["expected a pickled dict"]),
    "cifar: a pickle of terabytes": (cifar("data_batch_1", sparse), ["GB of memory"]),
    "cifar: a deep pickle": (
        cifar("data_batch_1", b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
        ["expected a pickled dict"],
    ),
    "cifar: half a pickle": (
        cifar("data_batch_1", pickle.dumps({"data": bytes(1000)})[:500]),
        ["expected a pickled dict"],
    ),
    "cifar: binary of terabytes": (cifar("data_batch_1.bin", sparse), ["expected 30730000 bytes"]),
    "cifar: an archive of terabytes": (
        cifar("cifar10_jpeg.npz", jpeg_terabytes),
        ["is declared to be"],
    ),
}


def census(rows=adult.NUM_TRAIN + adult.NUM_TEST, repeated=True, more=(), **changes):
    """The Adult census as a Parquet table of so many equal rows, some columns changed."""
    import pyarrow
    from pyarrow import parquet

    def make(folder):
        values = dict.fromkeys((*adult.COLUMNS, *more), 1) | changes
        zeros = pyarrow.array(np.zeros(rows, np.int32))
        columns = {
            name: pyarrow.DictionaryArray.from_arrays(zeros, pyarrow.array([value]))
            for name, value in values.items()
            if not isinstance(value, list)
        }
        columns |= {n: pyarrow.array([v] * rows) for n, v in values.items() if isinstance(v, list)}
        options = {"use_dictionary": repeated, "compression": "zstd"}
        parquet.write_table(pyarrow.table(columns), folder / "adult.parquet", **options)
        return folder

    return make


def half_census(folder):
    census()(folder)
    half(folder / "adult.parquet")
    return folder


def census_csv(content):
    def make(folder):
        for name in ("adult.data", "adult.test"):
            path = folder / name
            content(path) if callable(content) else path.write_text(content)
        return folder

    return make


CELLS = ",".join(["39", "x" * 100_000, *["1"] * (len(adult.COLUMNS) - 3), "<=50K"])
ADULT = {
    "parquet: millions of rows": (census(3_000_000), ["expected 48842 rows"]),
    "parquet: thousands of columns": (
        census(1, more=[f"c{i}" for i in range(2000)]),
        ["its columns, holds 2015, at most 1000"],
    ),
    "parquet: gigabytes by repeated text": (
        census(workclass="x" * LONG),
        [f"workclass holds {LONG} characters"],
    ),
    "parquet: a bomb": (census(repeated=False, race="x" * 3500), ["the table is declared", "hold"]),
    "parquet: lists": (census(sex=["a", "b"]), ["expected a column sex, found", "sex.list"]),
    "parquet: half of it": (half_census, ["expected a Parquet table"]),
    "census: a cell of 100 000 characters": (
        census_csv(f"{CELLS}\n"),
        ["expected workclass to be a category"],
    ),
    "census: terabytes": (census_csv(sparse), ["GB of memory"]),
}


def faces(attributes, partition="1.jpg 0\n2.jpg 2\n"):
    """CelebA's lists, without images."""

    def make(folder):
        for name, content in ((celeba.ATTRIBUTES, attributes), (celeba.PARTITION, partition)):
            path = folder / name
            content(path) if callable(content) else path.write_text(content)
        return folder

    return make


FACES = "2\nBlond_Hair Male Young\n1.jpg 1 -1 1\n2.jpg -1 1 -1\n"
CELEBA = {
    "celeba: attributes of terabytes": (faces(sparse), ["GB of memory"]),
    "celeba: sets of terabytes": (faces(FACES, sparse), ["GB of memory"]),
    "celeba: 5000 digits": (faces("9" * 5000 + FACES[1:]), ["expected the number of images"]),
    "celeba: a million attributes": (
        faces(FACES.replace("Male", "Male " + "a " * 1_000_000)),
        ["line 2, holds 1000003, at most 1000"],
    ),
    "celeba: a number of images that is none": (faces("\u0662" + FACES[1:]), ["1.jpg"]),
    "celeba: a path out of the folder": (
        faces(FACES.replace("1.jpg", "../1.jpg"), "../1.jpg 0\n2.jpg 2\n"),
        ["line 3: expected a file, found '../1.jpg'"],
    ),
    "celeba: a name of a million characters": (
        faces(FACES.replace("1.jpg", "x" * 1_000_000)),
        ["line 3: xxxxx", "is not in"],
    ),
}

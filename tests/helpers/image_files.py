"""Tiny image data sets in their published formats, and libraries that stand in for the hub."""

import gzip
import struct
import sys
import types

import numpy as np

from seedmap.experiments.datasets.idx import FILES

SHAPE = (4, 3, 1)


def idx_bytes(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def arrays(sizes=(7, 5), shape=SHAPE[:2], seed=0):
    """(images, labels) of the training and of the test set."""
    rng = np.random.default_rng(seed)
    return {
        part: (rng.integers(0, 256, (n, *shape)), rng.permutation(np.arange(n) % 10))
        for part, n in zip(FILES, sizes, strict=True)
    }


def write_mnist(folder, found, compressed=()):
    """Four idx files; those whose names are in `compressed` as .gz."""
    for part, names in FILES.items():
        for name, array in zip(names, found[part], strict=True):
            content = idx_bytes(array)
            if name in compressed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)


def fake_libraries(monkeypatch, found=None, error=None):
    """`datasets` and `huggingface_hub` as far as they are used: no network in tests."""

    class HfApi:
        def dataset_info(self, name, timeout):
            assert (name, 0 < timeout <= 30) == ("ylecun/mnist", True)
            if error is not None:
                raise error

    datasets = types.SimpleNamespace(load_dataset=lambda name: found)
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(HfApi=HfApi))

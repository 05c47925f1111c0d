"""Archives of arrays (.npz), as `np.savez` writes them."""

from typing import BinaryIO

import numpy as np


def load_npz(file: BinaryIO) -> np.lib.npyio.NpzFile:
    """The archive in an open file: `np.load` leaves a file open that it opened and cannot read.

    Nothing is unpickled.

    Raises:
        ValueError: it is no archive, such as a single array.
        OSError, EOFError, zipfile.BadZipFile: it is damaged.
    """
    found = np.load(file, allow_pickle=False)
    if not isinstance(found, np.lib.npyio.NpzFile):
        raise ValueError("it holds a single array")
    return found

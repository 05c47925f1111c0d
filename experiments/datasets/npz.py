"""Archives of arrays (.npz), as `np.savez` writes them."""

from typing import BinaryIO

import numpy as np

from seedmap.errors import UserError


def load_npz(file: BinaryIO) -> np.lib.npyio.NpzFile:
    """The archive in an open file: `np.load` leaves a file open that it opened and cannot read.

    Nothing is unpickled.

    Raises:
        UserError: it is no archive, such as a single array, or a pickle.
        OSError, EOFError, zipfile.BadZipFile: it is damaged.
    """
    start = file.read(6)
    file.seek(0)
    if start == b"\x93NUMPY":
        raise UserError("it holds a single array")
    if not start.startswith(b"PK"):  # NumPy would suggest to unpickle it
        raise UserError("it is no zip archive")
    return np.load(file, allow_pickle=False)

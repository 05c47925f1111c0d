"""Parameters of any library as a checkpoint that is in memory: one array at a time, as float32."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from seedmap.errors import UserError
from seedmap.experiments.checkpoints.formats import Checkpoint, as_float32
from seedmap.experiments.checkpoints.orbax_arrays import dotted


def as_checkpoint(parameters: Any, where: Path) -> Checkpoint:
    """Returns parameters as an open checkpoint; nothing is copied before it is read.

    Args:
        parameters: a dict of arrays of NumPy, JAX, PyTorch (a state dict) or Keras (weights by
            their paths), nested at will. The name of an array is what leads to it, joined by dots;
            a slash is a dot too, and an outermost "params" is left out.
        where: what messages call them.

    Raises:
        UserError: there are none, or what is there is no array.
    """
    flat = jax.tree_util.tree_leaves_with_path(parameters)
    leaves = {dotted(path).replace("/", "."): leaf for path, leaf in flat}
    wrapped = "params." if all(name.startswith("params.") for name in leaves) else ""
    arrays = {name.removeprefix(wrapped): leaf for name, leaf in leaves.items()}
    if not arrays:
        raise UserError(f"{where}: parameters are empty; give the network's weights by name")
    for name, array in arrays.items():
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            raise UserError(
                f"{where}: parameters{f'[{name!r}]' if name else ''} is a {type(array).__name__}; "
                "expected a dict of arrays, such as model.state_dict()"
            )
    shapes = {name: tuple(map(int, array.shape)) for name, array in arrays.items()}

    def read(name: str) -> np.ndarray:
        return as_float32(_to_numpy(arrays[name]), where, name)

    return Checkpoint(where, shapes, read, MappingProxyType({}), _tied(arrays))


def _tied(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Finds arrays that are one and the same under several names."""
    first: dict[Any, str] = {}
    for name, array in arrays.items():
        first.setdefault(_identity(array), name)
    same = {name: first[_identity(array)] for name, array in arrays.items()}
    return {name: other for name, other in same.items() if other != name}


def _identity(array: Any) -> Any:
    if hasattr(array, "data_ptr"):  # of PyTorch's state dicts, which make new objects
        return array.data_ptr(), tuple(array.shape), array.stride()
    return id(array)


def _to_numpy(array: Any) -> np.ndarray:
    if hasattr(array, "detach"):  # PyTorch's, which has floats that NumPy has not
        tensor = array.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return np.asarray(array)

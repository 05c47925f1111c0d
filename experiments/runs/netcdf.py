"""NetCDF files of a run folder: names with a slash, a checksum of the content."""

import io
from pathlib import Path

import numpy as np
import xarray as xr

from seedmap import files, limits
from seedmap.errors import UserError
from seedmap.identity import CHECKSUM, check_content, identify


def write_netcdf(path: Path, dataset: xr.Dataset) -> None:
    """Writes a dataset (NetCDF 4) with the checksum of its content, whole or not at all.

    It is made in memory: HDF5 ends the process where it meets a full disk. A name with a slash,
    which means a folder there, is written with %2F and keeps its own as the attribute `long_name`.
    """
    buffer = io.BytesIO()
    content = dataset.assign_attrs({CHECKSUM: identify(None, _arrays(dataset))})
    _with_safe_names(content).to_netcdf(buffer, engine="h5netcdf")
    files.write_bytes(path, buffer.getbuffer())


def _with_safe_names(dataset: xr.Dataset) -> xr.Dataset:
    """Returns a dataset with names that NetCDF allows."""
    safe = {}
    for name in map(str, dataset.data_vars):
        encoded = name.replace("%", "%25").replace("/", "%2F")
        if encoded != name:
            safe[name] = encoded
            of = dataset[name]
            dataset = dataset.assign({name: of.assign_attrs(long_name=name)})
    return dataset.rename(safe).assign_attrs(encoded_names=1) if safe else dataset


def _with_own_names(dataset: xr.Dataset) -> xr.Dataset:
    """Returns a dataset with the names that `_with_safe_names` has encoded."""
    if "encoded_names" not in dataset.attrs:
        return dataset
    attributes = {name: value for name, value in dataset.attrs.items() if name != "encoded_names"}
    names = {str(name): str(name) for name in dataset.data_vars}
    own = {name: name.replace("%2F", "/").replace("%25", "%") for name in names}
    renamed = dataset.rename({name: to for name, to in own.items() if to != name})
    return renamed.drop_attrs(deep=False).assign_attrs(attributes)


def check_netcdf(path: Path, dataset: xr.Dataset, made_by: str) -> None:
    """Raises UserError where a file's content was changed; `made_by` is the command to make it."""
    mend = f"make it anew with `seedmap {made_by}`"
    check_content(path, _arrays(dataset), dataset.attrs.get(CHECKSUM), mend)


def _arrays(dataset: xr.Dataset) -> dict[str, np.ndarray]:
    """Returns all variables and coordinates by name."""
    return {str(name): dataset[name].values for name in dataset.variables}


def load_netcdf(path: Path) -> xr.Dataset:
    """Reads a dataset (NetCDF 4) into memory.

    Raises:
        UserError: it is damaged, is none of a run's, or holds what `limits.check_hdf5` refuses.
    """
    try:
        limits.check_hdf5(path)
        return _with_own_names(xr.load_dataset(path, engine="h5netcdf"))
    except UserError:
        raise
    # Broad on purpose: of damaged content HDF5, h5netcdf and xarray raise anything from KeyError to
    # RuntimeError, and all of it means the same.
    except Exception as error:
        raise UserError(" ".join(str(error).split())[:200] or repr(error)) from None


def read_netcdf(folder: Path, name: str, made_by: str) -> xr.Dataset:
    """Reads a NetCDF file of a run folder into memory; `made_by` is the command to make it with.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not (folder / name).is_file():
        raise UserError(f"{folder} has no {name}; make it anew with `seedmap {made_by}`")
    try:
        return load_netcdf(folder / name)
    except UserError as error:
        raise UserError(
            f"{folder / name} cannot be read ({error}); make it anew with `seedmap {made_by}`"
        ) from None

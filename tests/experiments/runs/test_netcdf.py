"""What NetCDF refuses in a name is encoded, and read back as it was."""

import numpy as np
import xarray as xr

from seedmap.experiments.runs.netcdf import load_netcdf, write_netcdf


def test_netcdf_names_are_encoded_and_decoded(tmp_path):
    names = ["a/b", "a%2Fb", "a%b", "%", "/", "a b.c", "plain"]
    variables = {name: ("x", [float(i)], {"units": "nat"}) for i, name in enumerate(names)}
    dataset = xr.Dataset(variables, attrs={"converged": "a/b > 1"})
    write_netcdf(tmp_path / "x.nc", dataset)
    back = load_netcdf(tmp_path / "x.nc")
    assert [str(name) for name in back.data_vars] == names
    assert set(back.attrs) == {"converged", "checksum"}
    for name in names:
        assert back[name].attrs["units"] == "nat"
        np.testing.assert_array_equal(back[name], dataset[name])
    raw = xr.load_dataset(tmp_path / "x.nc", engine="h5netcdf")
    assert raw["a%2Fb"].attrs["long_name"] == "a/b"

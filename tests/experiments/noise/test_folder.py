"""Files of one study copied into another are refused, whatever their shapes."""

import json
import shutil

import h5py
import numpy as np
import pytest
import xarray as xr

from helpers import studies
from seedmap import files
from seedmap.experiments.noise.folder import load_study
from seedmap.experiments.noise.predictions import load_predictions, save_predictions
from seedmap.experiments.runs.netcdf import write_netcdf

FILES = ("config.json", "metrics.nc", "checkpoint", "predictions.npz", "barriers.nc")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two studies of the same shapes, and of other weights and records."""
    base = tmp_path_factory.mktemp("studies")
    made = studies.numbers()
    other = made | {"l2": made["l2"] + 1, "params": {"bias": made["params"]["bias"] + 1}}
    ours = studies.write(base / "ours", made, studies.content())
    return ours, studies.write(base / "other", other, studies.content())


def copied(source, folder, name):
    if (source / name).is_dir():
        shutil.rmtree(folder / name)
        shutil.copytree(source / name, folder / name)
    else:
        shutil.copy(source / name, folder / name)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_study_is_refused(name, both, tmp_path):
    folder = shutil.copytree(both[0], tmp_path / "study")
    assert len(load_study(folder).variants) == 2
    copied(both[1], folder, name)
    with pytest.raises(ValueError, match="are of different trainings: put the file back") as error:
        load_study(folder)
    assert str(folder / name) in str(error.value)
    assert "\n" not in str(error.value)
    copied(both[0], folder, name)
    load_study(folder)


@pytest.mark.parametrize("name", ["predictions.npz", "barriers.nc", "metrics.nc"])
def test_a_number_changed_by_hand_is_noticed(name, both, tmp_path):
    folder = shutil.copytree(both[0], tmp_path / "study")
    if name == "predictions.npz":
        with np.load(folder / name) as archive:
            arrays = dict(archive)
        arrays["loss"][0, 0] += 1e-3
        np.savez(folder / name, **arrays)
    else:
        with h5py.File(folder / name, "r+") as file:
            variable = file["error" if name == "barriers.nc" else "l2"]
            variable[...] = np.nan_to_num(variable[...]) + 1
    with pytest.raises(ValueError, match=r"was changed after it was written: .*make it anew with"):
        load_study(folder)


def test_a_study_of_a_former_version_is_read_whole_and_refused_in_part(both, tmp_path):
    folder = shutil.copytree(both[0], tmp_path / "study")
    config = json.loads((folder / "config.json").read_text())
    del config["training_id"]
    metadata = folder / "checkpoint" / "_CHECKPOINT_METADATA"
    about = json.loads(metadata.read_text()) | {"custom_metadata": {}}

    def without(name):
        dataset = xr.load_dataset(folder / name, engine="h5netcdf")
        write_netcdf(folder / name, dataset.drop_attrs())

    steps = (
        lambda: files.write_json(folder / "config.json", config),
        lambda: without("metrics.nc"),
        lambda: metadata.write_text(json.dumps(about)),
        lambda: save_predictions(folder, load_predictions(folder)._replace(training_id=None)),
        lambda: without("barriers.nc"),
    )
    for step in steps[:-1]:
        step()
        with pytest.raises(ValueError, match="are of different trainings"):
            load_study(folder)
    steps[-1]()
    study = load_study(folder)
    np.testing.assert_array_equal(study.dataset.l2, load_study(both[0]).dataset.l2)
    metadata.write_text("{}")
    with pytest.raises(ValueError, match="_CHECKPOINT_METADATA is damaged"):
        load_study(folder)

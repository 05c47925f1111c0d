"""A run folder whose command is killed before any operation: no run is lost, nothing blocks."""

import json
import shutil

import numpy as np
import pytest

from helpers.kills import Killed, killed_before, killed_when, operations
from seedmap.experiments import load_experiment
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.import_metrics import import_metrics
from seedmap.experiments.runs.train import collect_run, train_run
from seedmap.experiments.tasks.sparse_parities import ParitiesConfig
from seedmap.lock import SERVICE

PARITIES = load_experiment("parities")
SMALL = {"epochs": 6, "record_every": 2, "hidden": 8, "train_size": 64, "test_size": 20}
CONFIG = ParitiesConfig(seeds=6, seeds_at_once=6, record=("l2",), **SMALL)


def write_csv(folder, value):
    folder.mkdir()
    for run in ("a", "b"):
        rows = "".join(f"{step},{value + step}\n" for step in range(1, 6))
        (folder / f"{run}.csv").write_text("step,l2\n" + rows)
    return folder


def level(folder):
    """The value that the run in a folder was written with; None where no run is whole."""
    try:
        value = float(run_folder.read_dataset(folder).l2[0, 0]) - 1
        json.loads((folder / run_folder.CONFIG).read_text())["threshold"]
        return value
    except (ValueError, OSError):
        return None


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_metrics_imported_over_a_run_replace_it_only_when_they_are_all_there(tmp_path):
    sources = [write_csv(tmp_path / f"csv{value}", value) for value in (0, 100)]
    former = tmp_path / "former"
    import_metrics(sources[0], former)

    def replace(folder):
        import_metrics(sources[1], folder, overwrite=True)

    shutil.copytree(former, tmp_path / "whole")
    with operations() as seen:
        replace(tmp_path / "whole")
    moving = seen.index(("replace", (tmp_path / "whole" / SERVICE / "journal.json")))
    for stop in range(len(seen)):
        folder = tmp_path / f"run{stop}"
        shutil.copytree(former, folder)
        with killed_before(stop), pytest.raises(Killed):
            replace(folder)
        assert level(folder) == (0 if stop <= moving else 100)
        replace(folder)
        assert level(folder) == 100
        assert names(folder) == ["config.json", "metrics.nc"]


def test_metrics_that_cannot_be_written_leave_the_run(tmp_path, monkeypatch):
    sources = [write_csv(tmp_path / f"csv{value}", value) for value in (0, 100)]
    folder = tmp_path / "run"
    import_metrics(sources[0], folder)

    def refuse(*_):
        raise ValueError("a name that netCDF refuses")

    monkeypatch.setattr(run_folder, "write_dataset", refuse)
    with pytest.raises(ValueError, match="netCDF refuses"):
        import_metrics(sources[1], folder, overwrite=True)
    assert level(folder) == 0
    assert names(folder) == ["config.json", "metrics.nc"]
    with pytest.raises(ValueError, match="netCDF refuses"):
        import_metrics(sources[1], tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose training has come to its end and is not collected yet, and a complete one."""
    base = tmp_path_factory.mktemp("trained")
    train_run(PARITIES, CONFIG, base / "whole", 0.9)

    with killed_when(lambda kind, path: path.name == "draft"), pytest.raises(Killed):
        train_run(PARITIES, CONFIG, base / "ended", 0.9)
    return base


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_a_collection_killed_anywhere_is_done_again(every, trained, tmp_path):
    shutil.copytree(trained / "ended", tmp_path / "whole")
    with operations() as seen:
        collect_run(tmp_path / "whole")
    expected = run_folder.read_dataset(trained / "whole")
    params = run_folder.load_params(trained / "whole")
    assert run_folder.read_dataset(tmp_path / "whole").identical(expected)
    for stop in range(0, len(seen), every):
        folder = tmp_path / f"run{stop}"
        shutil.copytree(trained / "ended", folder)
        with killed_before(stop), pytest.raises(Killed):
            collect_run(folder)
        assert train_run(PARITIES, CONFIG, folder, 0.9, resume=True)
        assert run_folder.read_dataset(folder).identical(expected)
        np.testing.assert_equal(run_folder.load_params(folder), params)
        assert names(folder) == ["checkpoint", "config.json", "log.jsonl", "metrics.nc"]
        run_folder.check_free(folder, overwrite=True)


def test_what_was_begun_with_other_settings_is_refused_before_its_first_record(trained, tmp_path):
    """Killed while it compiled, a training has only the record of what was begun."""
    folder = tmp_path / "run"
    with killed_when(lambda kind, path: path.name == "job.json.part"), pytest.raises(Killed):
        train_run(PARITIES, CONFIG, folder, 0.9)
    other = ParitiesConfig(**{**CONFIG.__dict__, "hidden": 9})
    with pytest.raises(ValueError, match="hidden was 8 and is 9"):
        train_run(PARITIES, other, folder, 0.9, resume=True)
    assert train_run(PARITIES, CONFIG, folder, 0.9, resume=True)
    assert run_folder.read_dataset(folder).identical(run_folder.read_dataset(trained / "whole"))


@pytest.mark.parametrize("left", ["hmm.npz.part", "hmm.npz.partial", "report.html.part"])
def test_what_a_kill_left_does_not_keep_a_run_from_being_replaced(left, tmp_path):
    sources = [write_csv(tmp_path / f"csv{value}", value) for value in (0, 100)]
    folder = tmp_path / "run"
    import_metrics(sources[0], folder)
    (folder / left).write_bytes(b"half")
    (folder / "training.part" / "part-0").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds another run"):
        import_metrics(sources[1], folder)
    import_metrics(sources[1], folder, overwrite=True)
    assert level(folder) == 100
    assert names(folder) == ["config.json", "metrics.nc"]

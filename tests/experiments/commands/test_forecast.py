"""`seedmap forecast`: every seed from the records so far, and from the other seeds."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr

from helpers.schemas import assert_of_schema
from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.commands import main as cli
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.forecast import forecast_run

ONSETS = np.tile([6, 10, 16, 22], 5)  # records at which the runs jump, long after they part


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """20 runs whose first metric tells, from the third record on, when the second will jump."""
    folder = tmp_path_factory.mktemp("forecast") / "run"
    folder.mkdir()
    generator = np.random.default_rng(0)
    time = np.arange(30)
    late = time[None] >= ONSETS[:, None]
    signal = np.where(time[None] >= 2, ONSETS[:, None], 0.0)
    noise = 0.1 * generator.normal(size=(3, 20, 30))
    variables = {
        "l1": signal + noise[0],
        "l2": 10.0 * late + noise[1],
        "trace": time + noise[2],
        "eval_accuracy": np.where(late, 1.0, 0.5),
    }
    dataset = xr.Dataset(
        {name: (("seed", "step"), values) for name, values in variables.items()}
        | {"diverged": ("seed", np.full(20, -1))},
        {"seed": np.arange(20), "step": 10 * (time + 1)},
    )
    run_folder.write_dataset(folder, dataset)
    config = {"experiment": "planted", "threshold": 0.9, "wall_seconds": {}}
    files.write_json(folder / "config.json", config)
    return folder


def forecasts(folder):
    return json.loads((folder / "forecast.json").read_text())["forecasts"]


@pytest.mark.slow
def test_seeds_that_have_not_converged_are_forecast_without_reading_on(run, capsys):
    assert cli.main(["forecast", str(run), "--upto", "90"]) is None
    assert_of_schema(run / "forecast.json")
    rows = forecasts(run)
    # Nine records seen: the runs that jump at record 6 have converged, the others have not.
    assert sorted(int(row["seed"]) for row in rows) == np.flatnonzero(ONSETS > 6).tolist()
    for row in rows:
        assert row["actual"] == 10 * (ONSETS[int(row["seed"])] + 1)
        assert 90 < row["low"] <= row["median"]
        assert 0 <= row["convergence_probability"] <= 1
        assert set(row) == {  # no state: those of the forecaster are not the map's
            *("seed", "convergence_probability", "median", "low", "high", "level", "actual")
        }
    printed = capsys.readouterr().out
    assert "80 % interval" in printed
    assert "detour" not in printed
    dataset = run_folder.read_dataset(run)
    seed = int(rows[0]["seed"])
    for name in ("l1", "l2", "trace"):
        dataset[name][seed, 9:] = 100 * dataset[name][seed, 9:].values[::-1]
    run_folder.write_dataset(run, dataset)
    cli.main(["forecast", str(run), "--upto", "90"])
    assert next(row for row in forecasts(run) if int(row["seed"]) == seed) == rows[0]


@pytest.mark.parametrize(
    ("upto", "message"),
    [
        ("3", "--upto 3 is before the first record, at 10"),
        ("301", "--upto 301 is beyond the last record, at 300"),
        ("inf", "--upto is inf; it must be a time between the records"),
        ("nan", "--upto is nan; it must be a time between the records"),
    ],
)
def test_a_time_outside_the_records_is_named(run, capsys, upto, message):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["forecast", str(run), "--upto", upto])
    assert exit_.value.code == 2
    assert f"seedmap: {message}" in capsys.readouterr().err


def test_skill_needs_records_and_convergence(run, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    run_folder.write_dataset(few, run_folder.read_dataset(run).isel(step=slice(5)))
    shutil.copy(run / "config.json", few)
    with pytest.raises(UserError, match="--skill needs more than 5 records and seeds that conv"):
        forecast_run(few, 30, skill=True)
    assert not (few / "forecast.json").exists()


def test_when_all_have_converged_there_is_nothing_to_forecast(run, capsys):
    cli.main(["forecast", str(run), "--upto", "290"])
    assert "all have converged" in capsys.readouterr().out
    assert forecasts(run) == []


@pytest.mark.slow
def test_skill_is_written_beside_the_forecasts(run, capsys):
    cli.main(["forecast", str(run), "--upto", "90", "--skill"])
    assert_of_schema(run / "forecast.json")
    rows = json.loads((run / "forecast.json").read_text())["skill"]
    assert (run / "figures" / "forecast.png").is_file()
    early = next(row for row in rows if row["upto"] > 30)  # the first metric has told by then
    assert early["num_runs"] == 20
    assert early["brier"]["hmm"]["value"] < early["brier"]["time"]["value"]
    assert "forecast.png" in capsys.readouterr().out


@pytest.mark.slow
def test_baselines_stand_beside_the_hmm(tmp_path, run, capsys):
    settings = {
        "states": "1-3",
        "restarts": 2,
        "iterations": 8,
        "covariance": "diagonal",
        "prior": "weak",
        "fit_seed": 0,
    }
    folder = shutil.copytree(run, tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    files.write_json(folder / "config.json", config | {"fit": settings, "fit_id": "an id"})
    cli.main(["baselines", str(folder)])
    assert_of_schema(folder / "baselines.json")
    rows = json.loads((folder / "baselines.json").read_text())["rows"]
    names = [row["name"] for row in rows]
    assert names[:3] == ["HMM", "k-means", "HMM-1 (l2)"]
    assert any(name.startswith("up to step") for name in names)
    # The jump of l2 is the convergence, so its share of time tells the time, in every model of it.
    assert rows[2]["r2"] > 0.95
    assert "left-out R²" in capsys.readouterr().out

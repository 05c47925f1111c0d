"""`seedmap noise EXPERIMENT` from its words to its files."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from helpers.command import seedmap
from helpers.schemas import assert_of_schema
from seedmap.experiments import load_experiment
from seedmap.experiments.commands import noise as command
from seedmap.experiments.noise.folder import load_study, prepare, record_names
from seedmap.experiments.noise.steps import report_study
from seedmap.experiments.noise.study import NoiseConfig
from seedmap.experiments.noise.variants import rows_of
from seedmap.trainer.group_size import Choice

TINY = (
    *("--hidden", 8, "--bits", 6, "--train-size", 64, "--test-size", 40, "--epochs", 40),
    *("--record-every", 4, "--seeds-at-once", 8, "--roots", 1),
)


def noise(*arguments):
    return seedmap("noise", "parities", "--preset", "quick", *TINY, *arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("noise") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seedmap.experiments.noise.study.BARRIER_PAIRS", 1)
        patch.setattr("seedmap.hmm.training_map.branches.STATES", (4,))  # more take another program
        assert noise("--sources", "init,ulp,dropout", "--replicas", 3, "--out", path) == 0
    return path


def test_a_study_leaves_a_folder_with_its_numbers_its_replicas_and_a_report(folder):
    assert_of_schema(folder / "noise.json")
    found = json.loads((folder / "noise.json").read_text())
    assert found["experiment"] == "parities"
    assert found["control"]["exact"]
    assert [v["name"] for v in found["variants"]] == ["CONTROL", "init", "ulp", "ALGO+IMPL"]
    assert found["unused"] == ["dropout"]
    assert found["map"]["run"] == "map"
    by_name = {v["name"]: v for v in found["variants"]}
    assert by_name["CONTROL"]["paths"]["dissimilarity"]["discrete"]["value"] == 0
    assert by_name["CONTROL"]["paths"]["distinct"] == 1
    study = load_study(folder)
    assert study.predictions.logits.shape == (12, 40, 2)
    metrics = xr.load_dataset(folder / "metrics.nc", engine="h5netcdf")
    assert metrics.state.shape == (12, 10)
    # The map's own run has every replica once.
    own = xr.load_dataset(folder / "map" / "metrics.nc", engine="h5netcdf")
    rows = rows_of(study.variants)
    kept = [0, *rows["init"][1:], *rows["ulp"][1:], *rows["ALGO+IMPL"][1:]]
    assert own.seed.values.tolist() == kept
    page = (folder / "report.html").read_text()
    assert "CONTROL" in page
    assert "<svg" in page
    assert (folder / "figures" / "divergence.png").is_file()
    config = json.loads((folder / "config.json").read_text())
    assert config["noise"]["replicas"] == 3
    assert len(config["noise"]["data"]) == 64


def test_the_parameters_saved_are_those_the_predictions_are_of(folder):
    study = load_study(folder)
    first = study.params["params"]["Dense_0"]["kernel"]
    rows = rows_of(study.variants)
    np.testing.assert_array_equal(first[rows["CONTROL"]], first[[0, 0, 0]])
    assert len(np.unique(first[rows["init"]].reshape(3, -1), axis=0)) == 3
    accuracy = study.predictions.correct.mean(axis=1)
    np.testing.assert_allclose(study.dataset.eval_accuracy.values[:, -1], accuracy, atol=1e-6)


def test_measures_and_maps_of_other_studies_are_refused(folder, tmp_path):
    """What `report` would draw beside each other is of one study and one map."""
    found = json.loads((folder / "noise.json").read_text())
    summary = json.loads((folder / "map" / "summary.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    assert found["training_id"] == config["training_id"]
    assert found["map"]["map_id"] == summary["map_id"]
    own = json.loads((folder / "map" / "config.json").read_text())
    assert own["training_id"] == config["training_id"]
    copy = shutil.copytree(folder, tmp_path / "study")
    for changed, names, kind in (
        ({"training_id": "another"}, ("metrics.nc", "noise.json"), "trainings"),
        ({"map": found["map"] | {"map_id": "another"}}, ("metrics.nc", "noise.json"), "maps"),
    ):
        (copy / "noise.json").write_text(json.dumps(found | changed))
        with pytest.raises(
            ValueError, match=f"different {kind}: measure again with `seedm"
        ) as error:
            report_study(copy)
        assert all(f"{copy}/{name}" in str(error.value) for name in names)
    shutil.copy(folder / "noise.json", copy)
    assert seedmap("map", copy / "map", "--threshold", 0.1) == 0
    with pytest.raises(ValueError, match=r"summary.json and \S+noise.json are of different maps"):
        report_study(copy)


@pytest.mark.slow
def test_measuring_again_finds_the_same_and_another_study_is_refused(folder, capsys):
    before = json.loads((folder / "noise.json").read_text())
    arguments = ("--sources", "init,ulp,dropout", "--replicas", 3, "--out", folder)
    config = json.loads((folder / "config.json").read_text())
    config["noise"]["notes"] = ["in the words of another version"]  # they decide nothing
    (folder / "config.json").write_text(json.dumps(config))
    assert noise(*arguments, "--resume", "--map", "none") == 0
    after = json.loads((folder / "noise.json").read_text())
    assert after["map"] is None
    for old, new in zip(before["variants"], after["variants"], strict=True):
        assert {**old, "paths": None} == new
    assert noise(*arguments) == 2
    assert "holds another run" in capsys.readouterr().err
    assert noise("--sources", "init", "--replicas", 3, "--out", folder, "--resume") == 2
    said = capsys.readouterr().err
    assert "experiment_settings.noise.asked was ['init', 'dropout', 'ulp'] and is ['init']" in said
    assert len(said) < 1000


# Without a map nothing reads the metrics of the weights, and their decompositions compile long.
WITHOUT_A_MAP = ("--map", "none", "--record", "gradient_norm")


def test_the_cost_is_told_before_training(tmp_path, capsys):
    arguments = ("--sources", "none", "--replicas", 2, *WITHOUT_A_MAP)
    assert noise(*arguments, "--out", tmp_path / "s") == 0
    said = capsys.readouterr()
    assert "1 variant, 2 replicas in all x 80 steps x" in said.err
    assert "CONTROL" in said.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sources", "init,kernels"), "--sources: 'kernels' is unknown"),
        (("--replicas", 1), "--replicas is 1; a spread needs at least 2"),
        (("--roots", 0), "--roots is 0; it must be a whole number in 1 .. 1000"),
        (("--seeds", 7), "--seeds is a flag of `seedmap run`"),
        (("--vary", "init"), "--vary is a flag of `seedmap run`"),
        (("--precision", "tf32"), "--precision is one of the --sources"),
        (("--early-stop", "each"), "--early-stop: replicas to compare must train equally long"),
        (("--ulp-step", 3), "--ulp-step 3: it must be a multiple of 8"),
        (("--map", "nowhere"), "--map: nowhere is no run folder with a training map"),
        (("--resume",), "--resume needs --out"),
        (("--replicas", 10**20), "every two of a variant are compared: at most 10000"),
        (("--fork-steps", 8, 8), "--fork-steps: 8 stands twice"),
        (("--fork-steps", "x"), "--fork-steps: 'x' is not a valid value"),
        (("--record-every", 0), "--record-every is 0; it must be at least 1"),
        (("--batch-size", 0), "--batch-size is 0; it must be at least 1"),
        (("--batch-size", 65), "--batch-size is 65; it must lie between 1 and the 64"),
        (("--seeds-at-once", 0), "--seeds-at-once is 0; it must be at least 1"),
        (("--first-seed", -1), "--first-seed is -1; it must lie in 0 .. 4294967295"),
        (("--first-seed", 2**32), "--first-seed is 4294967296; it must lie in"),
        (("--learning-rate", "nan"), "--learning-rate is nan; it must be a finite number"),
        (("--save-seconds", -1), "--save-seconds is -1.0; it must be 0 or more"),
    ],
)
def test_wrong_input_gets_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert noise(*arguments) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert said.count("\n") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_map_of_another_experiment_is_refused(folder, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    config = json.loads((folder / "map" / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"experiment": "mnist"}))
    (other / "summary.json").write_text((folder / "map" / "summary.json").read_text())
    arguments = ("--sources", "init,ulp,dropout", "--replicas", 3, "--out", folder, "--resume")
    assert noise("--map", other, "--out", tmp_path / "study") == 2
    assert "is a run of mnist, the study is of parities" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()  # it is refused before anything is trained
    summary = json.loads((folder / "map" / "summary.json").read_text())
    lacking = {name: value for name, value in summary.items() if name != "num_states"}
    (other / "summary.json").write_text(json.dumps(lacking))
    assert noise(*arguments, "--map", other) == 2
    assert "summary.json has no 'num_states'" in capsys.readouterr().err
    (other / "summary.json").write_text((folder / "map" / "summary.json").read_text())
    (other / "config.json").write_text(json.dumps(config))
    assert noise(*arguments, "--map", other) == 2
    assert "hmm.json does not exist" in capsys.readouterr().err
    for name in ("hmm.json", "hmm.npz"):
        (other / name).write_bytes((folder / "map" / name).read_bytes())
    for odd, says in (
        ({"regression": None}, "summary.json has a 'regression' that is no mapping"),
        ({"num_states": "many"}, "summary.json has a 'num_states' of another type"),
        ({"num_states": 99}, "summary.json is not of the HMM beside it"),
    ):
        (other / "summary.json").write_text(json.dumps(summary | odd))
        assert noise(*arguments, "--map", other) == 2
        assert says in capsys.readouterr().err
    assert (folder / "report.html").is_file()  # nothing is cleared for a map that is refused


def test_a_study_of_several_roots_from_its_words_to_its_report(tmp_path, capsys):
    arguments = ("--sources", "init,ulp", "--roots", 3, "--replicas", 2, *WITHOUT_A_MAP)
    path = tmp_path / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seedmap.experiments.noise.study.BARRIER_PAIRS", 1)
        assert noise(*arguments, "--out", path) == 0
    said = capsys.readouterr()
    assert "4 variants around each of 3 roots, 24 replicas in all" in said.err
    assert_of_schema(path / "noise.json")
    found = json.loads((path / "noise.json").read_text())
    assert found["roots"] == 3
    assert found["control"] == {
        "exact": True,
        "first_apart": None,
        "diverged": None,
        "replicas": 3 * (2 + 3),
    }
    measures = {line["measure"] for line in found["components"]}
    assert {"log_convergence_time", "accuracy", "loss", "churn", "l2_distance"} == measures
    sources = {line["source"] for line in found["components"]}
    assert sources == {"init", "ulp", "ALGO+IMPL", "root"}
    assert found["variants"][1]["survival"]["num"] == 6
    study = load_study(path)
    assert study.predictions.label.shape == (3, 40)
    assert "Which sources matter, how much, how sure" in (path / "report.html").read_text()
    config = json.loads((path / "config.json").read_text())
    config["noise"]["roots"] = 2
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"is not of the 16 replicas that config.json names"):
        load_study(path)


def test_a_study_cut_short_is_not_collected_as_a_run(folder, tmp_path, capsys):
    training = tmp_path / "study" / "training"
    training.mkdir(parents=True)
    (training / "config.json").write_bytes((folder / "config.json").read_bytes())
    assert seedmap("collect", tmp_path / "study") == 2
    assert "continue with `seedmap noise parities`" in capsys.readouterr().err


def test_a_map_that_needs_what_is_not_recorded_is_refused_before_training(folder, tmp_path, capsys):
    arguments = ("--map", folder / "map", "--record", "gradient_norm", "distance_from_init")
    assert noise(*arguments, "--out", tmp_path / "study") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"--map: {folder / 'map'} needs " in said
    assert "which the study does not --record" in said
    assert not (tmp_path / "study").exists()


def test_what_will_be_recorded_is_known_before_training(folder):
    parities = load_experiment("parities")
    config = replace(parities.presets["quick"].training, record=("weights", "rank_measures"))
    names = record_names(prepare(parities, config, NoiseConfig("init,ulp", 2)))
    assert {"l2", "trace", "stable_rank", "train_loss", "eval_accuracy"} <= names
    assert "gradient_norm" not in names


def test_a_map_that_would_be_overwritten_is_refused(folder, capsys):
    before = (folder / "noise.json").read_bytes()
    config = (folder / "config.json").read_bytes()
    for map_from in (folder / "map", folder):
        (folder / "config.json").write_bytes((folder / "map" / "config.json").read_bytes())
        (folder / "summary.json").write_bytes((folder / "map" / "summary.json").read_bytes())
        (folder / "hmm.json").write_bytes((folder / "map" / "hmm.json").read_bytes())
        (folder / "hmm.npz").write_bytes((folder / "map" / "hmm.npz").read_bytes())
        assert noise("--map", map_from, "--overwrite", "--out", folder) == 2
        assert f"--overwrite would delete {map_from}" in capsys.readouterr().err
    for name in ("summary.json", "hmm.json", "hmm.npz"):
        (folder / name).unlink()
    (folder / "config.json").write_bytes(config)
    assert (folder / "noise.json").read_bytes() == before


def test_a_folder_without_a_study_is_told_apart(folder, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"experiment": "parities"}))
    with pytest.raises(ValueError, match="holds no study of noise"):
        load_study(tmp_path)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ValueError, match="make it with `seedmap noise EXPERIMENT --overwrite`"):
        load_study(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["noise"]["notes"] = [1, None, {"a": 2}]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="its list of the study's variants is damaged"):
        load_study(tmp_path)


def test_a_preset_does_not_say_how_many_replicas_stand_side_by_side(monkeypatch):
    seen = []
    monkeypatch.setattr(
        command, "run", lambda _, options: seen.append(options.training.seeds_at_once)
    )
    preset = load_experiment("parities").presets["paper"].training.seeds_at_once
    assert seedmap("noise", "parities") == 0
    assert seedmap("noise", "parities", "--seeds-at-once", preset) == 0
    assert seen == [None, preset]


def test_a_study_cut_short_says_how_to_go_on(tmp_path, monkeypatch):
    def stopped(prepared, settings, folder, *arguments, **options):
        saved = folder / "training" / "part-0" / "checkpoints" / "4"
        saved.mkdir(parents=True)
        (saved / "commit_success.txt").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "trial", lambda prepared: Choice(1, 0.1))
    monkeypatch.setattr(command, "train_study", stopped)
    arguments = ["parities", "--preset", "quick", *map(str, TINY), "--out", str(tmp_path / "cut")]
    with pytest.raises(KeyboardInterrupt, match=r"; continue with --resume --out .*cut"):
        command.noise_command(arguments)

"""The whole command at a tiny size: the run folder's contract, one clear line on wrong input."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
import xarray as xr

from helpers.command import seedmap
from helpers.crashes import remember_loads
from helpers.schemas import assert_of_schema
from seedmap.experiments.commands import main as cli
from seedmap.experiments.report.run_text import summary_text
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.fit_and_map import fit_run
from seedmap.experiments.runs.summary import read_summary
from seedmap.experiments.tasks.base import FitConfig
from seedmap.hmm.io import load_hmm
from seedmap.hmm.training_map import branches
from seedmap.hmm.training_map.regression import bag_of_states, regress
from seedmap.trainer import OUTCOMES, PAPER_METRICS

TRAINING = (
    "--seeds 6 --epochs 40 --record-every 4 --hidden 16 --bits 8 --train-size 64 "
    "--learning-rate 0.3"
).split()
FITTING = "--states 2-3 --restarts 2 --iterations 6 --resamples 3".split()
TINY = TRAINING + FITTING


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Branches are sought at 4 states only: more would take another program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(branches, "STATES", (4,))
        remember_loads(patch)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert seedmap("run", "parities", "--out", folder, *TINY) == 0
    return folder


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_metrics_hold_every_variable_by_seed_and_step(run):
    dataset = xr.open_dataset(run / "metrics.nc")
    assert dict(dataset.sizes) == {"seed": 6, "step": 10}
    assert set(PAPER_METRICS) | set(OUTCOMES) | {"state", "diverged"} == set(dataset.data_vars)
    assert dataset.step.values.tolist() == [8 * i for i in range(1, 11)]  # 4 epochs of 2 batches
    assert dataset.epoch.values.tolist() == [4 * i for i in range(1, 11)]
    assert all(np.isfinite(dataset[name]).all() for name in PAPER_METRICS + OUTCOMES)
    dataset.close()


def test_config_holds_hyperparameters_versions_device_and_times(run):
    config = json.loads((run / "config.json").read_text())
    assert config["experiment"] == "parities"
    assert config["hyperparameters"]["hidden"] == 16
    assert config["fit"]["states"] == "2-3"
    assert {"jax", "flax", "optax", "dynamax"} < set(config["versions"])
    assert config["versions"]["jax"] == jax.__version__
    assert config["device"]["platform"] == jax.default_backend()
    assert set(config["wall_seconds"]) == {"compile", "train", "fit", "analyse", "report"}
    assert "git_commit" in config


def test_checkpoint_holds_every_seeds_parameters(run):
    params = run_folder.load_params(run)
    assert params["params"]["Dense_0"]["kernel"].shape == (6, 8, 16)
    l1 = [np.abs(params["params"][f"Dense_{i}"]["kernel"]).sum(axis=(1, 2)) for i in (0, 1)]
    dataset = run_folder.read_dataset(run)
    np.testing.assert_allclose(dataset.l1[:, -1], np.mean(l1, axis=0), rtol=1e-5)


def test_summary_is_of_its_schema(run):
    assert_of_schema(run / "summary.json")


def test_summary_has_the_promised_fields(run):
    content = summary(run)
    assert content["num_seeds"] == 6
    assert content["num_diverged"] == 0
    dataset = run_folder.read_dataset(run)
    accurate = dataset.eval_accuracy.values > 0.9
    times = np.where(accurate.any(1), dataset.epoch.values[accurate.argmax(1)], np.nan)
    expected = [None if np.isnan(t) else t for t in times]
    assert content["convergence"]["values"] == expected
    assert content["num_converged"] == sum(t is not None for t in expected)
    assert {"threshold", "unit", "mean", "std"} < set(content["convergence"])
    assert [row["num_states"] for row in content["selection"]] == [2, 3]
    assert {"bic", "icl", "agreement", "chance", "reason"} < set(content["selection"][0])
    assert {"r2", "f_pvalue", "leave_one_out_r2"} < set(content["regression"])
    assert len(content["regression"]["coefficients"]) == content["num_states"]
    assert set(content["dissimilarity"]) == {"index", "discrete", "means"}
    assert content["forking"] == any(branch["named"] for branch in content["branches"])
    assert content["detours"] == [b["state"] for b in content["branches"] if b["detour"]]
    assert content["held_out_log_likelihood"] == {}
    for transition in content["transitions"]:
        assert set(transition) == {"from", "to", "probability", "num_runs", "top_features"}
        assert len(transition["top_features"]) == 3
    stability = content["stability"]
    assert [(e["from"], e["to"]) for e in stability["edges"]] == [
        (t["from"], t["to"]) for t in content["transitions"]
    ]
    assert all(0.6 < edge["bootstrap"] <= 1 for edge in stability["edges"])
    refits = stability["refits"]
    assert refits["num_resamples"] == len(refits["adjusted_rand"])
    assert all(0 <= e["refits"] <= 1 for e in stability["edges"])
    assert set(content["seconds"]) == {"compile", "train", "fit", "analyse"}


@pytest.mark.slow
def test_the_other_prior_is_fitted_where_a_comparison_is_asked_for(copy):
    gaussian = ("fit", copy, "--overwrite", "--emission", "gaussian", *FITTING)
    assert seedmap(*gaussian) == 0
    before = json.loads((copy / "stability.json").read_text())["priors"]
    assert not (copy / "maps.nc").exists()  # which was of the fit before
    assert seedmap(*gaussian, "--compare-priors") == 0
    rows = json.loads((copy / "stability.json").read_text())["priors"]
    assert [row["prior"] for row in rows] == ["held-out", "weak"]
    assert rows[:1] == before
    assert rows[1]["scale"] == 1e-4
    assert -0.5 <= rows[1]["adjusted_rand"] <= 1


def test_every_pass_counts_in_the_progress(copy):
    """Six passes under the held-out prior, one under the weak one, and the refits."""
    counted = []
    config = FitConfig("1-2", 2, 6, covariance="shared", resamples=3, compare_priors=True)
    fit_run(copy, config, lambda done, total: counted.append((done, total)))
    assert {total for _, total in counted} == {6 * 6 + 6 + 6}
    done = [done for done, _ in counted]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 48)


def test_a_fit_asks_before_it_makes_a_map_stale(copy, capsys):
    content = {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file()}
    assert seedmap("fit", copy, *FITTING) == 2
    assert "add --overwrite to replace fit and map, or --out" in capsys.readouterr().err
    assert content == {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file()}
    assert seedmap("fit", copy, "--overwrite", *FITTING) == 0
    assert not (copy / "summary.json").exists()


def test_what_was_probably_meant_is_named(run, tmp_path, capsys):
    (tmp_path / "all.csv").write_text("run,step,l2\n")
    for words, meant in [
        (("report", run / "metrics.nc"), f"seedmap report {run}"),
        (("map", run.parent), f"{run.parent} holds a run; name one: seedmap map {run}"),
        (("fit", run.parent), f"{run.parent} holds a run; name one: seedmap fit {run}"),
        (("fit", tmp_path / "all.csv"), f"seedmap import metrics {tmp_path / 'all.csv'} --out"),
        (("baselines", tmp_path / "nowhere"), f"there is no folder {tmp_path / 'nowhere'}"),
        (("rune", "parities"), "(did you mean run?)"),
        (("run", "paritis"), "(did you mean parities?)"),
        (("run", "parities", "--learning_rat", "1"), "(did you mean --learning-rate?)"),
    ]:
        assert seedmap(*words) == 2
        assert meant in capsys.readouterr().err


def test_what_a_run_found_is_shown_again(run, capsys, monkeypatch):
    assert seedmap("show", run) == 0
    shown = capsys.readouterr().out
    assert shown.rstrip("\n") == summary_text(read_summary(run))
    assert seedmap("show", run, "--json") == 0
    assert capsys.readouterr().out == (run / "summary.json").read_text()
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    assert seedmap("show", run, "--open") == 0
    assert opened == [(run / "report.html").resolve().as_uri()]
    assert seedmap("show", run, "--open", "--json") == 2


def test_the_runs_of_a_folder_are_listed(run, capsys):
    content = summary(run)
    assert seedmap("ls", run.parent) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == "run experiment started step converged states branches".split()
    assert re.match(rf"{run} +parities +20", line)
    assert line.endswith("  forks not testable")
    assert f"reported  {content['num_converged']} of 6" in line
    assert seedmap("ls", run.parent, "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["states"] == content["num_states"]
    assert seedmap("ls", run / "figures") == 2
    assert "holds no runs" in capsys.readouterr().err
    assert seedmap("show", run.parent) == 2
    assert f"seedmap ls {run.parent}" in capsys.readouterr().err


def test_states_in_the_dataset_are_those_of_the_map(run):
    content, states = summary(run), run_folder.read_dataset(run).state.values
    assert states.min() >= 0
    for row in content["states"]:
        assert row["occupancy"] == pytest.approx((states == row["state"]).mean())
        assert row["num_runs"] == (states == row["state"]).any(axis=1).sum()
    seen = {(path[i], path[i + 1]) for path in states for i in range(9) if path[i] != path[i + 1]}
    assert {(t["from"], t["to"]) for t in content["transitions"]} == seen
    assert load_hmm(run).parameters.means.shape == (content["num_states"], 14)


def test_report_is_one_file_with_every_figure_inside(run):
    text = (run / "report.html").read_text()
    names = {path.stem for path in (run / "figures").glob("*.png")}
    assert {"training_map", "state_raster", "losses", "model_selection"} < names
    assert text.count('<div class="picture"><svg') == len(names)
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)  # Bokeh's knows addresses
    assert not re.search(r"(src|href)=[\"']?http", markup)


def test_the_steps_one_by_one_give_the_same_run(run, tmp_path):
    folder = tmp_path / "steps"
    assert seedmap("train", "parities", "--out", folder, *TRAINING) == 0
    assert seedmap("fit", folder, *FITTING) == 0
    assert seedmap("map", folder) == 0
    assert seedmap("report", folder) == 0
    ours, theirs = summary(folder), summary(run)
    assert {k: v for k, v in ours.items() if k != "seconds"} == {
        k: v for k, v in theirs.items() if k != "seconds"
    }


def test_a_diverged_seed_is_told_of_and_the_others_go_on(copy, capsys):
    dataset = run_folder.read_dataset(copy).drop_vars("state")
    for name in PAPER_METRICS + OUTCOMES:
        dataset[name][2, 6:] = np.nan
    dataset["diverged"][2] = 56
    run_folder.write_dataset(copy, dataset)
    for command in ("fit", "map", "report"):
        flags = ["--overwrite", *FITTING] if command == "fit" else []
        assert seedmap(command, copy, *flags) == 0
    content, state = summary(copy), run_folder.read_dataset(copy).state.values
    assert content["num_diverged"] == 1
    assert content["diverged_seeds"] == [2]
    assert (state[2, 6:] == -1).all()
    assert (np.delete(state, 2, axis=0) >= 0).all()
    assert "2 (step 56)" in (copy / "report.html").read_text()
    assert "2 (step 56)" in capsys.readouterr().out


def test_any_recorded_variable_can_be_the_outcome(copy, capsys):
    assert seedmap("map", copy, "--outcome", "eval_loss") == 0
    regression, dataset = summary(copy)["regression"], run_folder.read_dataset(copy)
    assert regression["outcome"] == "eval_loss"
    bag = bag_of_states(dataset.state.values, summary(copy)["num_states"])
    expected = regress(bag, dataset.eval_loss.values[:, -1].astype(float))
    assert regression["r2"] == pytest.approx(expected.r2)
    assert regression["num_runs"] == 6
    assert summary(copy)["detours"] == []
    assert seedmap("map", copy, "--outcome", "gender_bias") == 2
    assert "eval_loss" in capsys.readouterr().err


def test_runs_that_never_converge_are_excluded_or_capped(copy):
    dataset = run_folder.read_dataset(copy)
    dataset["eval_accuracy"][:, :] = 0.5
    dataset["eval_accuracy"][:4, 5:] = 1.0
    run_folder.write_dataset(copy, dataset)
    for censored, num_runs in (("exclude", 4), ("cap", 6)):
        assert seedmap("map", copy, "--censored", censored) == 0
        content = summary(copy)
        assert content["num_converged"] == 4
        assert content["regression"]["num_runs"] == num_runs
        assert content["regression"]["num_censored"] == 2
        assert content["regression"]["censoring"] == censored
        assert any("2 runs never converged" in note for note in content["notes"])


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "parities", "--help"], ["train", "parities", "--help-all"]]
    + [
        [command, "--help"]
        for command in ("collect", "fit", "map", "report", "forecast", "baselines")
    ],
)
def test_every_help_names_its_flags(arguments, capsys):
    assert seedmap(*arguments) == 0
    text = " ".join(capsys.readouterr().out.split())
    expected = {
        "--help": ["run", "train", "fit", "map", "report", "parities"],
        "run": ["--seeds", "--states", "--out", "--preset", "default: 40", "epochs", "--help-all"],
        "train": ["--seeds", "--learning-rate", "--hidden", "--overwrite", "--resume", "--vary"],
        "collect": ["run folder", "DIR"],
        "fit": ["--states", "--method {hu2023}", "PATH", "default: 1-8"],
        "map": ["run folder", "DIR"],
        "report": ["run folder", "DIR"],
        "forecast": ["run folder", "--upto", "epochs"],
        "baselines": ["run folder", "DIR"],
    }
    for word in expected[arguments[0]]:
        assert word.lower() in text.lower()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], ["'fly'", "run, train, import, import checkpoints", "collect, fit, map, report"]),
        (["run"], ["needs an experiment", "parities"]),
        (["run", "paritys"], ["'paritys'", "parities"]),
        (["run", "parities", "--speed", "9"], ["'--speed'", "seedmap run parities --help"]),
        (["fit", "nowhere", "--state", "3"], ["'--state'", "seedmap fit --help"]),
        (["map", "nowhere", "elsewhere"], ["'elsewhere'"]),
        (["run", "--seeds", "8"], ["name the experiment first"]),
        (["run", "parities", "--seeds", "0"], ["--seeds is 0", "at least 5"]),
        (["run", "parities", "--seeds", "1"], ["--seeds is 1", "at least 5"]),
        (["run", "parities", "--preset", "fast"], ["'fast'", "paper, quick"]),
        (["run", "parities", "--states", "8-1"], ["--states '8-1'"]),
        (["run", "parities", "--states", "0-3"], ["--states '0-3'"]),
        (["run", "parities", "--states", "1-"], ["--states '1-'"]),
        (["run", "parities", "--criterion", "vibes"], ["'vibes'", "validation_bic"]),
        (["run", "parities", "--validation-share", "2"], ["--validation-share is 2"]),
        (["run", "parities", "--fit-seed", "-1"], ["--fit-seed is -1"]),
        (["run", "parities", "--resamples", "-1"], ["--resamples is -1"]),
        (["run", "parities", "--threshold", "nan"], ["--threshold is nan"]),
        (["run", "parities", "--learning-rate", "inf"], ["--learning-rate is inf"]),
        (["run", "parities", "--weight-decay", "-1"], ["--weight-decay is -1"]),
        (["run", "parities", "--states", "1-9999999999"], ["1-9999999999", "1000"]),
        (["run", "parities", "--restarts", "0"], ["restarts", "0"]),
        (["run", "parities", "--epochs", "7"], ["--epochs 7", "--record-every 5"]),
        (["run", "parities", "--epochs", "-5"], ["--epochs is -5"]),
        (["run", "parities", "--hidden", "0"], ["hidden is 0"]),
        (["run", "parities", "--batch-size", "2000"], ["--batch-size is 2000", "1000"]),
        (["run", "parities", "--parity-bits", "41"], ["parity_bits is 41", "40"]),
        (["run", "parities", "--seeds", "abc"], ["--seeds: 'abc' is not a whole number"]),
        (["run", "parities", "--seeds", "4.5"], ["'4.5'", "see `seedmap run parities --help`"]),
        (["train", "parities", "--weight-decay", "x"], ["--weight-decay: 'x' is not a number"]),
        (["run", "parities", "--seeds"], ["--seeds needs a value"]),
        (
            ["run", "parities", "--covariance", "round"],
            ["--covariance: 'round' is not one of 'diagonal', 'full', 'shared', 'spherical'"],
        ),
        (["map"], ["seedmap: DIR must be given; see `seedmap map --help`"]),
        (["fit", "--states", "3"], ["PATH must be given"]),
        (["forecast"], ["DIR and --upto FLOAT must be given"]),
        (["forecast", "nowhere", "--upto", "noon"], ["--upto: 'noon' is not a number"]),
        (["fit", "nowhere"], ["nowhere", "there is no folder nowhere"]),
        (["map", "nowhere"], ["nowhere"]),
        (["report", "nowhere"], ["nowhere"]),
    ],
)
def test_wrong_input_gets_one_line_and_exit_code_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert seedmap(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("seedmap: ")
    for word in words:
        assert word in lines[0]
    assert not list(tmp_path.iterdir())  # nothing is left behind


@pytest.mark.slow
def test_the_paper_prior_and_criterion_can_be_chosen(copy, capsys):
    assert (
        seedmap("fit", copy, "--overwrite", "--prior", "weak", "--criterion", "train_bic", *FITTING)
        == 0
    )
    sweep = json.loads((copy / "sweep.json").read_text())
    assert sweep["config"]["prior"] == "weak"
    assert {fit["prior_scale"] for fit in sweep["fits"]} == {1e-4}
    assert seedmap("fit", copy, "--overwrite", "--criterion", "vibes", *FITTING) == 2
    assert "validation_bic" in capsys.readouterr().err


@pytest.mark.slow
def test_without_resamples_the_rest_of_the_report_stands(copy):
    assert seedmap("fit", copy, "--overwrite", "--resamples", "0", *FITTING) == 0
    assert seedmap("map", copy) == seedmap("report", copy) == 0
    assert summary(copy)["stability"]["refits"] is None
    assert all(edge["refits"] is None for edge in summary(copy)["stability"]["edges"])
    assert "refitted" not in (copy / "report.html").read_text()


def test_another_run_is_not_overwritten_unasked(copy, capsys):
    before = (copy / "summary.json").read_bytes()
    assert seedmap("run", "parities", "--out", copy, *TINY) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (copy / "summary.json").read_bytes() == before


def test_a_folder_that_is_not_a_run_is_never_overwritten(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert seedmap("run", "parities", "--out", tmp_path, "--overwrite", *TINY) == 2
    assert "not a seedmap run" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_model_folder_with_a_config_is_never_overwritten(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_text("weights")
    assert seedmap("train", "parities", "--out", tmp_path, "--overwrite", *TRAINING) == 2
    assert "model.safetensors" in capsys.readouterr().err
    assert (tmp_path / "model.safetensors").read_text() == "weights"


def contents(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_run_to_replace_stays_whole_until_the_new_one_is_trained(copy, monkeypatch, capsys):
    before = contents(copy)
    arguments = ("train", "parities", "--out", copy, "--overwrite", *TRAINING)
    assert seedmap(*arguments, "--first-seed", "-1") == 2

    def fails(*arguments, **options):
        raise OSError(28, "No space left on device", "metrics.nc")

    monkeypatch.setattr("seedmap.experiments.runs.train.train", fails)
    assert seedmap(*arguments) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert contents(copy) == before
    monkeypatch.undo()
    assert seedmap(*arguments) == 0
    assert not (copy / "summary.json").exists()
    assert run_folder.read_dataset(copy).sizes["seed"] == 6


def test_training_that_fails_leaves_no_folder_behind(tmp_path, monkeypatch):
    def fails(*arguments, **options):
        assert (tmp_path / "new" / ".seedmap" / "lock").is_file()  # it is claimed by then
        raise OSError(28, "No space left on device", "metrics.nc")

    monkeypatch.setattr("seedmap.experiments.runs.train.train", fails)
    assert seedmap("train", "parities", "--out", tmp_path / "new", *TRAINING) == 2
    assert not (tmp_path / "new").exists()


def test_a_new_fit_makes_the_old_report_go(copy, capsys):
    assert seedmap("fit", copy, "--overwrite", *FITTING) == 0
    assert not (copy / "report.html").exists()
    assert seedmap("report", copy) == 2
    assert "seedmap map" in capsys.readouterr().err


def test_too_many_states_for_the_seeds_are_refused_before_training(tmp_path, capsys):
    out = tmp_path / "new"
    assert seedmap("run", "parities", "--out", out, *TINY, "--states", "1-28") == 2
    assert "54 training checkpoints allow at most 27" in capsys.readouterr().err
    assert not out.exists()


def test_when_all_seeds_diverge_the_learning_rate_is_to_blame(tmp_path, capsys):
    out = tmp_path / "new"
    assert seedmap("train", "parities", "--out", out, *TRAINING, "--learning-rate", "1e30") == 0
    assert seedmap("fit", out, *FITTING) == 2
    assert "6 of 6 seeds diverged" in capsys.readouterr().err


def test_a_folder_without_metrics_says_which_command_makes_them(tmp_path, capsys):
    assert seedmap("fit", tmp_path) == 2
    assert "seedmap train" in capsys.readouterr().err


def test_map_before_fit_says_so(copy, capsys):
    run_folder.write_dataset(copy, run_folder.read_dataset(copy).drop_vars("state"))
    assert seedmap("map", copy) == 2
    assert "seedmap fit" in capsys.readouterr().err


def test_more_states_than_the_data_allow(copy, capsys):
    assert seedmap("fit", copy, "--overwrite", "--states", "60") == 2
    assert "more than the data allow" in capsys.readouterr().err


def test_a_damaged_metrics_file_is_named(copy, capsys):
    (copy / "metrics.nc").write_bytes(b"\x00" * 100)
    assert seedmap("fit", copy, "--overwrite") == 2
    assert "metrics.nc" in capsys.readouterr().err


READ_BY_BOTH = ["config.json", "hmm.json", "hmm.npz", "sweep.json", "metrics.nc"]


@pytest.mark.parametrize(
    ("command", "name"),
    [("map", name) for name in [*READ_BY_BOTH, "stability.json"]]
    + [("report", name) for name in [*READ_BY_BOTH, "summary.json"]],
)
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("{}")])
def test_a_missing_or_damaged_file_is_named(copy, capsys, command, name, damage):
    damage(copy / name)
    assert seedmap(command, copy) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("seedmap: ")
    assert name in line


def test_a_bug_is_not_dressed_up_as_wrong_input(copy, monkeypatch):
    def broken(folder, asked):
        np.zeros(2).reshape(3)

    monkeypatch.setattr("seedmap.experiments.runs.fit_and_map.map_run", broken)
    with pytest.raises(ValueError, match="reshape"):
        cli.main(["map", str(copy)])


@pytest.mark.parametrize("name", ["hmm.json", "sweep.json", "summary.json", "config.json"])
def test_json_too_deep_to_read_is_named(copy, capsys, name):
    (copy / name).write_text("[" * 100_000)
    assert seedmap("report", copy) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line


def test_a_config_of_wrong_types_is_refused_before_anything_is_replaced(copy, capsys):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"wall_seconds": "wrong"}))
    before = {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file()}
    assert seedmap("fit", copy, "--overwrite", *FITTING) == 2
    assert "'wall_seconds' is 'wrong'; restore the file" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file()}

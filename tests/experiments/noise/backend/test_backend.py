"""The same replica in processes of its own: settings, children, and what becomes of them."""

import json
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from helpers.command import seedmap
from helpers.schemas import assert_of_schema
from helpers.studies import content, numbers, write
from seedmap import files
from seedmap.experiments.commands.noise_backend import backend_command
from seedmap.experiments.commands.parsing import UsageError
from seedmap.experiments.noise.backend import (
    folder as study_folder,
    settings as backend,
    study as backend_study,
)
from seedmap.experiments.noise.backend.results import BackendPlan
from seedmap.experiments.noise.compare import DIVERGED, compare_studies
from seedmap.experiments.noise.report import backend as backend_pages
from seedmap.experiments.noise.variants import make_variants
from seedmap.experiments.processes import child as processes
from seedmap.experiments.runs import folder as run_folder
from seedmap.results import to_json

TINY = ("--epochs", "6", "--record-every", "3", "--train-size", "40", "--test-size", "20")
TINY += ("--hidden", "8", "--batch-size", "20", "--record", "l2")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "unknown experiment 'nonsense'; known are: parities, modular"),
        (["parities", "--settings"], "--settings needs a value: some of default, deterministic"),
        (["parities", "--save-seconds", "nan"], "--save-seconds is nan; it must be 0 or more"),
        (["parities", "--settings", "fast"], "--settings: 'fast' is unknown; choose from default"),
        (["parities", "--settings", "default", "default"], "default stands twice"),
        (["parities", "--settings", "flags:rm -r"], "'rm' for a flag of XLA's"),
        (["parities", "--replicas", "1"], "--replicas is 1; comparing processes needs at"),
        (["parities", "--seeds", "5"], "--seeds does not go with `seedmap noise backend`"),
        (["parities", "--vary", "init"], "--vary does not go with `seedmap noise backend`"),
        (["parities", "--seeds-at-once", "2"], "the settings vmapped and one-at-a-time set it"),
        (["parities", "--resume"], "--resume needs --out"),
        (["parities", "--epochs", "7"], "--epochs 7 is not a multiple of --record-every 5"),
    ],
)
def test_wrong_input_is_one_line(capsys, arguments, says):
    assert seedmap("noise", "backend", *arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_folders_of_others_are_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    for flags in ((), ("--overwrite",), ("--resume",)):
        assert seedmap("noise", "backend", "parities", "--out", tmp_path, *flags) == 2
        assert "holds thesis.tex" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_child_has_its_parents_flags_and_those_of_its_setting(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    assert backend.environment_of(backend.SETTINGS["default"])["XLA_FLAGS"] == "--xla_a=1"
    found = backend.environment_of(backend.SETTINGS["deterministic"])
    assert found["XLA_FLAGS"] == "--xla_a=1 --xla_gpu_deterministic_ops=true"
    assert backend.environment_of(backend.SETTINGS["one-thread"])["NPROC"] == "1"
    both = backend.parse_setting("flags:--xla_cpu_enable_fast_math=true --xla_b=2")
    assert both.name == "flags-cpu_enable_fast_math-true-b-2"
    assert backend.environment_of(both)["XLA_FLAGS"].endswith("math=true --xla_b=2")
    monkeypatch.delenv("XLA_FLAGS")
    assert "XLA_FLAGS" not in backend.environment_of(backend.SETTINGS["vmapped"])


def test_replicas_of_settings_take_turns(tmp_path):
    settings = backend.parse_settings(["default", "vmapped"])
    names = [child.folder.name for child in backend.children_of(settings, 2, tmp_path)]
    assert names == ["default-0", "vmapped-0", "default-1", "vmapped-1"]


@pytest.fixture
def run_python(tmp_path, monkeypatch):
    """Runs a line of Python in place of a child."""

    def run(code, on_message=None):
        child = backend.Child(backend.SETTINGS["default"], 0, tmp_path / "default-0")
        monkeypatch.setattr(processes, "command", lambda *_: [sys.executable, "-c", code])
        return backend.run_child(child, (), on_message)

    return run


def test_what_a_child_says_is_handed_on(run_python, tmp_path):
    said = []
    code = 'print(\'a word\'); print(\'{"step": 2, "steps": 4, "seconds": 0.5}\')'
    assert run_python(code, said.append) is None
    assert said == [{"step": 2, "steps": 4, "seconds": 0.5}]


def test_why_a_child_died_is_its_last_line(run_python, tmp_path):
    died = "raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory')"
    line = "RuntimeError: RESOURCE_EXHAUSTED: Out of memory"
    assert run_python(died) == f"ended with exit code 1: {line}"
    assert "Traceback" in (tmp_path / "logs" / "default-0.log").read_text()
    killed = "killed (SIGKILL, as the system does where memory runs out): it wrote nothing"
    assert run_python("import os; os.kill(os.getpid(), 9)") == killed


def test_a_refusal_of_a_child_is_one_of_the_command(run_python):
    with pytest.raises(ValueError, match=r"^--hidden is 0$"):
        run_python("import sys; print('seedmap: --hidden is 0', file=sys.stderr); sys.exit(2)")


def test_a_child_does_not_outlive_an_interruption(run_python):
    pids = []

    def stop(message):
        pids.append(message["pid"])
        raise KeyboardInterrupt

    code = "import json, os, time; print(json.dumps({'pid': os.getpid()}), flush=True)"
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        run_python(code + "; time.sleep(60)", stop)
    assert time.perf_counter() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def made_up(tmp_path, replicas, changes):
    """Children of the settings of `changes`, their bias moved by as much, and their plan."""
    settings = backend.parse_settings(list(changes))
    children = backend.children_of(settings, replicas, tmp_path)
    for child in children:
        copies = child.setting.copies
        made = numbers(copies)
        for leaf in (made["params"]["bias"], made["params"]["dense"]["kernel"], made["logits"]):
            leaf[1:] = leaf[:1]  # copies are alike
        for name in ("train_loss", "l2"):
            made[name][1:] = made[name][:1]
        by = changes[child.setting.name]
        made["params"]["bias"] += np.float32(by[child.replica] if isinstance(by, tuple) else by)
        write(child.folder, made, content(make_variants((), copies)))
    plan = BackendPlan(
        experiment="parities",
        hyperparameters={"hidden": 8},
        variables={},
        replicas=replicas,
        settings=[backend_study.planned(setting) for setting in settings],
        children=[child.folder.name for child in children],
    )
    return plan, children


def measure(plan, children, failed):
    """The content of `backend.json`."""
    return to_json(backend_study.measure(plan, children, failed))


def test_processes_are_compared_within_settings_and_between_them(tmp_path):
    plan, children = made_up(tmp_path, 3, {"default": (0, 0, 1.0), "vmapped": 0.5})
    found = measure(plan, children, {})
    default, vmapped, between = found["pairs"]
    assert (default["replicas"], default["equal"]) == (3, 1)  # pairs
    assert (vmapped["replicas"], vmapped["equal"]) == (3, 3)
    assert (between["replicas"], between["equal"]) == (3, 0)
    assert vmapped["l2_distance"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    whole = to_json(compare_studies([tmp_path / "default-0", tmp_path / "default-2"]))["pairs"][0]
    apart = whole["l2_distance"]["value"]
    np.testing.assert_allclose(default["l2_distance"]["value"], 2 / 3 * apart, rtol=1e-12)
    assert [len(setting["copies_alike"]) for setting in found["settings"]] == [0, 9]
    assert all(found["settings"][1]["copies_alike"])
    assert [setting["seconds"] for setting in found["settings"]] == [[2.0] * 3] * 2


def test_what_was_measured_is_written_and_shown(tmp_path):
    plan, children = made_up(tmp_path, 2, {"default": 0, "vmapped": 0.5})
    summary = backend_study.measure(plan, children, {})
    page = backend_pages.write_backend(tmp_path, summary).read_text()
    assert_of_schema(tmp_path / "backend.json")
    content = json.loads((tmp_path / "backend.json").read_text())
    assert content == to_json(summary)
    assert content["children"] == [child.folder.name for child in children]
    assert (tmp_path / "backend.csv").read_text().count("\n") == 4
    for text in (page, backend_pages.terminal(summary)):
        assert "4 copies side by side in one program" in text
        assert "default : vmapped" in text


def test_children_that_died_are_left_out_and_named(tmp_path):
    plan, children = made_up(tmp_path, 2, {"default": 0, "deterministic": 0})
    failed = {"deterministic-0": "no kernel (exit code 1)", "deterministic-1": "the same"}
    found = measure(plan, children, failed)
    assert [pair["runs"] for pair in found["pairs"]] == [["default", "default"]]
    assert [setting["trained"] for setting in found["settings"]] == [2, 0]
    assert "deterministic-0 has not trained: no kernel (exit code 1)" in found["notes"]
    assert any("ran on a CPU, where deterministic changes nothing" in n for n in found["notes"])
    with pytest.raises(ValueError, match="deterministic-0 ended with: no kernel"):
        measure(plan, children, failed | {"default-1": "late"})


def finish(folder, plan, number):
    """Ends a study whose processes have trained; each leaves its number."""
    for name in plan.children:
        child = folder / "training" / name
        if not ((folder / name).is_dir() and not plan.replaces):
            child.mkdir(exist_ok=True)
            (child / "config.json").write_text(number)
    with study_folder.collected(folder) as draft:
        files.write_json(draft / "backend.json", to_json(plan))


def test_a_study_is_taken_on_replaced_or_refused(tmp_path):
    folder = tmp_path / "study"
    plan, _ = made_up(folder, 2, {"default": 0})
    # Made before its marker stood there, as no study is: not ours.
    with pytest.raises(ValueError, match="holds default-0"):
        study_folder.begin(folder, plan, overwrite=True, resume=False)
    shutil.rmtree(folder)
    study_folder.begin(folder, plan, overwrite=False, resume=False)
    with pytest.raises(ValueError, match=r"holds a study cut short; .* add --resume to cont"):
        study_folder.begin(folder, plan, overwrite=False, resume=False)
    other = replace(plan, hyperparameters={"hidden": 16})
    with pytest.raises(ValueError, match=r"was begun with hyperparameters\.hidden 8, not 16"):
        study_folder.begin(folder, other, overwrite=False, resume=True)
    finish(folder, study_folder.begin(folder, plan, overwrite=False, resume=True), "1")
    assert contents(folder) == {"default-0": "1", "default-1": "1"}
    with pytest.raises(ValueError, match=r"holds another study; .* add --resume to go on"):
        study_folder.begin(folder, plan, overwrite=False, resume=False)


def contents(folder):
    """What each process of the study has left."""
    return {path.parent.name: path.read_text() for path in folder.glob("*/config.json")}


def test_more_processes_join_a_study_and_one_that_replaces_it_takes_its_place_last(tmp_path):
    plan, _ = made_up(tmp_path / "made", 2, {"default": 0})
    folder = tmp_path / "study"
    finish(folder, study_folder.begin(folder, plan, overwrite=False, resume=False), "1")
    more = replace(plan, children=["unoptimised-0", "unoptimised-1"])
    both = study_folder.begin(folder, more, overwrite=False, resume=True)
    assert both.children == ["default-0", "default-1", *more.children]
    children = backend.children_of(backend.parse_settings(["default", "unoptimised"]), 2, folder)
    own = [
        child.folder.relative_to(folder).parts
        for child in study_folder.placed(folder, both, children)
    ]
    assert own == [
        ("default-0",),
        ("training", "unoptimised-0"),
        ("default-1",),
        ("training", "unoptimised-1"),
    ]
    finish(folder, both, "2")
    assert contents(folder) == {"default-0": "1", "default-1": "1"} | dict.fromkeys(
        more.children, "2"
    )
    other = study_folder.begin(folder, replace(plan, variables={"NPROC": "1"}), True, False)
    again = study_folder.begin(folder, replace(plan, variables={"NPROC": "1"}), False, True)
    assert other.replaces
    assert again == other
    assert all(
        "training" in child.folder.parts for child in study_folder.placed(folder, again, children)
    )
    assert len(contents(folder)) == 4
    finish(folder, again, "3")
    assert contents(folder) == {"default-0": "3", "default-1": "3"}
    assert sorted(path.name for path in folder.iterdir()) == [
        "backend.json",
        "default-0",
        "default-1",
    ]


def test_a_study_of_a_former_version_cut_short_goes_on_where_its_processes_are(tmp_path):
    plan, children = made_up(tmp_path, 2, {"default": 0})
    files.write_json(tmp_path / "backend.json", to_json(plan))
    begun = study_folder.begin(tmp_path, plan, overwrite=False, resume=True)
    assert study_folder.placed(tmp_path, begun, children) == children


def train(out, *settings, flags=()):
    """The whole command on the smallest parities, as a user's shell would start it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XLA_FLAGS", raising=False)  # conftest's: not optimised
        given = ("--settings", *settings, "--replicas", "2", "--out", out, *TINY, *flags)
        code = seedmap("noise", "backend", "parities", *given)
    return code, json.loads((Path(out) / "backend.json").read_text())


@pytest.mark.slow
def test_processes_agree_a_wrong_flag_is_reported_and_the_rest_kept(tmp_path, capsys):
    out = tmp_path / "study"
    code, found = train(out, "unoptimised", "flags:--xla_nonsense=1")
    assert code == 0
    said = capsys.readouterr()
    assert "4 processes x 12 steps" in said.err
    assert "1 of 1" in said.out
    (pair,) = found["pairs"]
    assert (pair["equal"], pair["first_apart"], pair["record"]) == (1, [None], [None])
    assert "Unknown flag in XLA_FLAGS: --xla_nonsense=1" in found["failed"]["flags-nonsense-1-0"]
    page = (out / "backend.html").read_text()
    assert "flags-nonsense-1-0 has not trained" in page
    assert (out / "figures" / "differences.png").is_file()
    config = json.loads((out / "unoptimised-0" / "config.json").read_text())
    assert config["variables"]["XLA_FLAGS"] == "--xla_backend_optimization_level=0"
    assert seedmap("noise", "compare", out / "unoptimised-0", out / "unoptimised-1") == 0
    before = (out / "unoptimised-0" / "metrics.nc").stat().st_mtime_ns
    assert train(out, "unoptimised", flags=("--resume",))[0] == 0
    assert (out / "unoptimised-0" / "metrics.nc").stat().st_mtime_ns == before


@pytest.mark.slow
def test_another_program_rounds_otherwise_and_copies_agree(tmp_path):
    _, found = train(tmp_path / "study", "default", "unoptimised", "vmapped")
    pairs = {tuple(pair["runs"]): pair for pair in found["pairs"]}
    for name in ("default", "unoptimised", "vmapped"):
        assert pairs[name, name]["equal"] == 1
    assert pairs["default", "unoptimised"]["equal"] == 0
    assert pairs["default", "unoptimised"]["l2_distance"]["value"] > 0
    assert found["settings"][2]["copies_alike"] == [True] * 6


def test_what_a_child_refuses_leaves_nothing_and_takes_nothing(tmp_path, monkeypatch):
    def refuses(child, *_):
        (child.folder.parent / "logs").mkdir(exist_ok=True)
        raise UsageError("--test-size is 1")

    monkeypatch.setattr("seedmap.experiments.commands.noise_backend.run_child", refuses)
    folder = tmp_path / "new"
    words = ["parities", "--preset", "quick", "--out", str(folder), "--overwrite"]
    with pytest.raises(UsageError, match="--test-size is 1"):
        backend_command(words)
    assert not folder.exists()
    plan, _ = made_up(tmp_path / "made", 2, {"default": 0})
    finish(folder, study_folder.begin(folder, plan, overwrite=False, resume=False), "1")
    with pytest.raises(UsageError, match="--test-size is 1"):
        backend_command(words)
    assert contents(folder) == {"default-0": "1", "default-1": "1"}
    assert not (folder / "training").exists()
    (folder / "training" / "default-0").mkdir(parents=True)
    study_folder.take_away(folder)
    assert (folder / "training" / "default-0").is_dir()


def test_processes_that_diverged_are_told_of(tmp_path):
    plan, children = made_up(tmp_path, 2, {"default": 0})
    assert DIVERGED not in measure(plan, children, {})["notes"]
    for child in children:
        with xr.load_dataset(child.folder / "metrics.nc", engine="h5netcdf") as dataset:
            dataset.diverged[:] = 4
        run_folder.write_dataset(child.folder, dataset)
    assert measure(plan, children, {})["notes"] == [DIVERGED]

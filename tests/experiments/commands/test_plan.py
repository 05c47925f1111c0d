"""`seedmap plan`: what it prints and writes, and how it refuses."""

import json

import pytest

from helpers.command import seedmap
from helpers.plans import small_plan
from helpers.schemas import assert_of_schema
from seedmap.experiments.commands.plan import parse_plan
from seedmap.experiments.plan import processes, targets
from seedmap.experiments.plan.child import plan_child
from seedmap.experiments.plan.summary import summary_text


@pytest.fixture
def compiled(monkeypatch):
    """The process that compiles gives a plan at once."""
    asked = []

    def plan_elsewhere(argv, target, on_program):
        asked.append((list(argv), target.text))
        on_program("training, 3 seeds a device")
        return small_plan()

    monkeypatch.setattr(processes, "plan_elsewhere", plan_elsewhere)
    monkeypatch.setattr(targets, "is_installed", lambda module: True)
    return asked


def test_a_plan_is_printed_and_written(compiled, tmp_path, capsys):
    words = ("plan", "parities", "--preset", "quick", "--on", "gpu:h100", "--seeds", "5")
    assert seedmap(*words, "--out", tmp_path / "plan") == 0
    assert_of_schema(tmp_path / "plan" / "plan.json")
    said = capsys.readouterr().out
    assert "Compiled for       NVIDIA H100 80GB HBM3; not run on it" in said
    assert "4 a device, 4 in all" in said
    assert "do not fit at once, trained in 2 groups that take turns" in said
    assert "cusolver_gesvdj_ffi x2" in said
    assert "training: scatter 1 -> 0, sort 0 -> 1, 9 B -> 12 B a call, 12 MFLOP without" in said
    assert "operations are counted from the traced program, and so are the same" in said
    assert "0.00024 s, by the peak of products, in float32 (the other: 2.2e-05 s)" in said
    assert f"Report: {tmp_path / 'plan' / 'plan.html'}" in said
    assert compiled == [([*words[1:], "--out", str(tmp_path / "plan")], "gpu:h100")]
    assert seedmap(*words, "--out", tmp_path / "plan") == 2
    assert "holds another plan; name another folder, or add --overwrite" in capsys.readouterr().err
    assert seedmap(*words, "--out", tmp_path / "plan", "--overwrite") == 0


def test_a_plan_is_shown_again(compiled, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "plan"
    assert seedmap("plan", "parities", "--on", "gpu:h100", "--out", folder) == 0
    capsys.readouterr()
    assert seedmap("show", folder) == 0
    assert capsys.readouterr().out.rstrip() == summary_text(small_plan()).rstrip()
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    assert seedmap("show", folder, "--open") == 0
    assert opened == [(folder / "plan.html").as_uri()]
    (folder / "plan.html").unlink()  # as of versions that wrote none
    assert seedmap("show", folder, "--open") == 2
    again = f"make it with `seedmap plan ... --out {folder}`"
    assert f"has no plan.html; {again}" in capsys.readouterr().err
    (folder / "plan.json").write_text("{")
    assert seedmap("show", folder) == 2
    said = capsys.readouterr().err
    assert f"make it anew with `seedmap plan ... --out {folder}`" in said


def test_without_a_folder_nothing_is_written(compiled, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert seedmap("plan", "parities", "--on", "tpu:v5e:2x2") == 0
    assert not list(tmp_path.iterdir())
    assert "Written" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--on", "tpu:v9:2x2"), "known are cpu, tpu:v5e"),
        (("--on", "tpu:v5e"), "needs a topology"),
        (("--seeds", "0"), "--seeds is 0"),
        (("--states", "x"), "--states 'x'"),
        (("--out", "/dev/null"), "is a file; name a folder"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_compiled(words, said, compiled, capsys):
    assert seedmap("plan", "parities", *words) == 2
    assert said in capsys.readouterr().err
    assert not compiled


def test_a_compiler_that_is_not_there_is_named(monkeypatch, capsys):
    monkeypatch.setattr(targets, "is_installed", lambda module: False)
    assert seedmap("plan", "parities", "--on", "tpu:v5e:2x2") == 2
    assert "pip install 'seedmap[plan]'" in capsys.readouterr().err


def test_the_child_plans_the_same_command_line():
    answers = []
    words = ("parities", "--preset", "quick", "--hidden", "4", "--train-size", "64")
    words += ("--states", "1-2", "--epochs", "20", "--record-every", "5", "--seeds", "2")
    plan_child(words, lambda **answer: answers.append(answer))
    *progress, last = answers
    assert progress[0]["compiling"] == "training, 2 seeds a device"
    assert last["plan"]["hyperparameters"]["hidden"] == 4
    assert json.dumps(last["plan"])
    fits = ("EM start", "EM", "given states", "decoding")
    names = {"training", "start", "filter, 2 states", *(f"{name}, 4 states" for name in fits)}
    assert set(last["plan"]["compile_seconds"]) == names


def test_the_presets_settings_of_the_fit_are_the_defaults():
    _, options, target = parse_plan(["parities", "--preset", "quick"])
    assert (options.fit.states, target.text) == ("1-4", "cpu")


@pytest.mark.slow
def test_a_process_of_its_own_compiles(tmp_path, capsys):
    words = ("plan", "parities", "--preset", "quick", "--states", "1", "--out", tmp_path / "plan")
    assert seedmap(*words) == 0
    assert_of_schema(tmp_path / "plan" / "plan.json")
    assert "CPU of this machine" in capsys.readouterr().out
    assert seedmap("plan", "cifar10", "--width", "0") == 2
    assert "--width is 0; it must be above 0" in capsys.readouterr().err

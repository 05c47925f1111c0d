"""Sequences of checkpoints on disk become a run folder, cut short and resumed alike."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import torch

from helpers import checkpoint_models as models
from helpers.command import seedmap
from seedmap.errors import UserError
from seedmap.experiments.checkpoints import importing, measuring
from seedmap.experiments.checkpoints.importing import Source, import_checkpoints
from seedmap.experiments.checkpoints.patterns import find_checkpoints, parse_step
from seedmap.experiments.checkpoints.places import Place
from seedmap.experiments.checkpoints.streaming import measure_checkpoint
from seedmap.experiments.runs import folder as run_folder
from seedmap.identity import identify
from seedmap.lock import let_go, lock, take
from seedmap.trainer import PAPER_METRICS, weight_metrics

STEPS = ("0k", "20k", "40k", "100k", "120k", "140k", "160k", "180k")
PATTERN = "multiberts-seed_{run}-step_{step}"
RUNS = 2


def write_multiberts(folder, runs):
    """Runs named as MultiBERTs are on the hub; safetensors, shards and .bin in turn."""
    for seed in range(runs):
        model = models.bert(seed)
        for i, step in enumerate(STEPS):
            models.train(model, 1, rate=0.5 if i == 3 + seed % 3 else 0.05)
            place = folder / f"multiberts-seed_{seed}-step_{step}"
            model.save_pretrained(place, max_shard_size="8KB" if i % 3 == 1 else "50GB")
            if i % 3 == 2:
                (place / "model.safetensors").unlink()
                torch.save(model.state_dict(), place / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def multiberts(tmp_path_factory):
    return write_multiberts(tmp_path_factory.mktemp("hub"), RUNS)


@pytest.fixture
def here(multiberts, monkeypatch):
    monkeypatch.chdir(multiberts)
    return multiberts


def importing_stopped_after(count, *arguments):
    """The command, killed after so many checkpoints."""

    class Killed(BaseException):
        pass

    seen = []

    def measure(*given):
        if len(seen) == count:
            raise Killed
        seen.append(given)
        return measure_checkpoint(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "measure_checkpoint", measure)
        with pytest.raises(Killed):
            seedmap(*arguments)
    return seen


def content(folder):
    dataset = run_folder.read_dataset(folder)
    return {name: np.asarray(dataset[name]).tolist() for name in dataset.variables}


@pytest.mark.slow
def test_multiberts_from_checkpoints_to_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_multiberts(tmp_path, 5)
    out, table = tmp_path / "run", tmp_path / "losses.csv"
    lines = [
        f"{seed},{step},{5 - 0.4 * i},{0.2 if i < 4 + seed % 3 else 0.95}"
        for seed in range(5)
        for i, step in enumerate(STEPS)
    ]
    table.write_text("\n".join(["run,step,eval_loss,eval_accuracy", *lines]))
    assert seedmap("import", "checkpoints", PATTERN, "--out", out, "--outcomes", table) == 0
    said = capsys.readouterr()
    assert f"Next: seedmap fit {out}" in said.out
    assert "import:" in said.err
    dataset = run_folder.read_dataset(out)
    assert dataset.seed.values.tolist() == list("01234")
    assert dataset.step.values.tolist() == [parse_step(step) for step in STEPS]
    assert set(PAPER_METRICS) <= set(dataset.data_vars)
    assert not dataset[list(PAPER_METRICS)].to_array().isnull().any()
    assert dataset.eval_loss.values[2].tolist()[:2] == [5, 4.6]
    config = json.loads((out / "config.json").read_text())
    assert config["import"]["layout"] == "bert"
    assert config["counted"]["matrices"] == models.LAYERS * (3 * models.HEADS + 3) + 3
    names = ["config.json", "measured.jsonl", "metrics.nc"]
    assert sorted(p.name for p in out.iterdir()) == names
    small = ["--states", "2", "--restarts", "1", "--iterations", "3", "--covariance", "diagonal"]
    assert seedmap("fit", out, *small) == 0
    assert seedmap("map", out) == 0
    assert seedmap("report", out) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["num_converged"] == 5
    expected = [parse_step(STEPS[4 + seed % 3]) for seed in range(5)]
    assert summary["convergence"]["values"] == expected
    assert (out / "report.html").stat().st_size > 10_000


def lines_of(folder):
    """Lines of what is measured of each run, by the run's name."""
    logs = sorted((folder / "training").glob("run-*/import.jsonl"))
    return {log.parent.name[4:]: len(log.read_text().splitlines()) for log in logs}


def test_killed_and_resumed_it_is_the_same(here, tmp_path, capsys):
    whole, out = tmp_path / "whole", tmp_path / "out"
    arguments = ["import", "checkpoints", PATTERN]
    assert seedmap(*arguments, "--out", whole) == 0
    assert len(importing_stopped_after(3, *arguments, "--out", out)) == 3
    done = out / "training" / "run-0" / "import.jsonl"
    assert lines_of(out) == {"0": 3}
    assert seedmap("fit", out) == 2
    assert "is not complete" in capsys.readouterr().err
    done.write_bytes(done.read_bytes()[:-9])  # a line cut short is made again
    assert seedmap(*arguments, "--out", out) == 2
    with pytest.warns(UserWarning, match=r"bytes after its first 2 lines are cut short.* dropped"):
        assert len(importing_stopped_after(5, *arguments, "--out", out, "--resume")) == 5
    assert lines_of(out) == {"0": 7}
    left = []
    measure = measuring.measure_checkpoint
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "measure_checkpoint", lambda *a: left.append(a) or measure(*a))
        assert seedmap(*arguments, "--out", out, "--resume") == 0
        assert len(left) == RUNS * len(STEPS) - 7
        assert seedmap(*arguments, "--out", out, "--resume") == 0  # there is nothing left to do
        capsys.readouterr()
        assert seedmap(*arguments, "--out", out, "--resume", "--threshold", 0.5) == 2
        assert "threshold was 0.9 and is 0.5" in capsys.readouterr().err
    assert len(left) == RUNS * len(STEPS) - 7
    assert content(out) == content(whole)


def test_the_number_of_cores_changes_no_bit_and_no_line(here, tmp_path, monkeypatch):
    """With three lanes the first checkpoint is done last, and three are measured at a time."""
    together, calls = threading.Barrier(3, timeout=60), itertools.count()

    def measure(*given):
        call = next(calls)
        if call < 3:
            together.wait()  # breaks unless three are under way
        time.sleep(0.2 * (call == 0))
        return measure_checkpoint(*given)

    logs = []
    for lanes in (1, 3):
        monkeypatch.setattr(importing, "num_lanes", lambda lanes=lanes: lanes)
        if lanes == 3:
            monkeypatch.setattr(measuring, "measure_checkpoint", measure)
        folder = tmp_path / str(lanes)
        import_checkpoints(Source(PATTERN), folder, 0.9)
        logs.append((folder / run_folder.MEASURED).read_text())
    assert logs[0] == logs[1]
    assert content(tmp_path / "1") == content(tmp_path / "3")
    assert next(calls) == RUNS * len(STEPS)


def test_an_error_in_a_lane_ends_the_import_after_what_came_before(here, tmp_path, monkeypatch):
    def measure(checkpoint, leaves):
        if "step_40k" in str(checkpoint.path):
            raise UserError("step_40k: no good")
        return measure_checkpoint(checkpoint, leaves)

    monkeypatch.setattr(importing, "num_lanes", lambda: 2)
    monkeypatch.setattr(measuring, "measure_checkpoint", measure)
    with pytest.raises(UserError, match="no good"):
        import_checkpoints(Source(PATTERN), tmp_path / "run", 0.9)
    log = measuring.log_of(tmp_path / "run", "0")
    assert len(log.read_text().splitlines()) == STEPS.index("40k")


def test_checkpoints_too_large_for_memory_together_are_measured_one_by_one(monkeypatch):
    place = Place([], int, int, int)
    how = measuring.How(None, None, "", None, lanes=8)
    monkeypatch.setattr(measuring.limits, "memory", lambda: 1000)
    assert [measuring._lanes(place, how, size) for size in (0, 50, 125, 126, 999)] == [
        8,
        5,
        2,
        1,
        1,
    ]
    assert measuring._lanes(place._replace(one_by_one=True), how, 1) == 1


def test_neither_an_import_nor_a_training_goes_on_with_the_other(here, tmp_path, capsys):
    arguments = ["import", "checkpoints", PATTERN, "--resume", "--out"]
    for name in ("part-0/job.json", "config.json"):  # the second stands there first
        begun = tmp_path / name[:4] / "training" / name
        begun.parent.mkdir(parents=True)
        begun.write_text("{}")
        (tmp_path / name[:4] / "config.json").write_text('{"versions": {"seedmap": "1"}}')
        assert seedmap(*arguments, tmp_path / name[:4]) == 2
        assert "holds a training cut short, not an import; name" in capsys.readouterr().err
        assert begun.exists()
    out = tmp_path / "out"
    importing_stopped_after(1, *arguments, out)
    log = out / "training" / "run-0" / "import.jsonl"
    begun = log.read_bytes()
    capsys.readouterr()
    assert seedmap("train", "parities", "--preset", "quick", "--resume", "--out", out) == 2
    assert "holds an import cut short, not a training; name" in capsys.readouterr().err
    assert log.read_bytes() == begun
    assert sorted(p.name for p in (out / "training").iterdir()) == ["import.json", "run-0"]


def test_a_damaged_line_and_a_changed_checkpoint_are_measured_anew(here, tmp_path):
    copy, out = tmp_path / "hub", tmp_path / "out"
    for name in ("multiberts-seed_0-step_0k", "multiberts-seed_0-step_20k"):
        shutil.copytree(here / name, copy / name)
        shutil.copytree(here / name.replace("d_0", "d_1"), copy / name.replace("d_0", "d_1"))
    arguments = ["import", "checkpoints", f"{copy}/{PATTERN}", "--out", out]
    importing_stopped_after(3, *arguments)
    done = out / "training" / "run-0" / "import.jsonl"
    first, second = done.read_bytes().splitlines(keepends=True)
    done.write_bytes(first + second.replace(b'"l1": ', b'"l1": 1') + second)
    begun = json.loads((out / "training" / "import.json").read_text())
    owner = identify({k: value for k, value in begun.items() if k not in ("format", "source")})
    with pytest.warns(UserWarning, match="after its first 1 lines"):
        assert len(measuring.read_rows(done, owner)) == 1
    os.utime(copy / "multiberts-seed_0-step_0k" / "model.safetensors", ns=(1, 1))
    assert len(importing_stopped_after(2, *arguments, "--resume")) == 2  # both of run 0
    assert len(importing_stopped_after(0, *arguments, "--resume")) == 0  # the last of run 1 is left
    assert seedmap(*arguments, "--resume") == 0


# More checkpoints, fewer, equal ones, unfinished ones


def write_steps(folder, runs, steps, seed=0):
    """Checkpoints of a layer, an .npz each; two of one run, step and seed are equal."""
    for run in runs:
        (folder / f"run{run}").mkdir(parents=True, exist_ok=True)
        for step in steps:
            rng = np.random.default_rng([run, step, seed])
            weight = rng.normal(size=(4, 3)).astype("f4")
            np.savez(
                folder / f"run{run}" / f"{step}.npz",
                **{"fc.weight": weight, "fc.bias": weight[:, 0]},
            )
    return str(folder / "run{run}" / "{step}.npz")


def measured_in(*arguments):
    """The command, and the number of checkpoints that it measures."""
    seen, measure = [], measuring.measure_checkpoint
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "measure_checkpoint", lambda *a: seen.append(a) or measure(*a))
        assert seedmap("import", "checkpoints", *arguments) == 0
    return len(seen)


def test_runs_of_other_steps_stand_at_their_union(tmp_path):
    pattern = write_steps(tmp_path / "a", [0], [0, 1, 2, 3])
    write_steps(tmp_path / "a", [1], [0, 2, 3])
    assert seedmap("import", "checkpoints", pattern, "--out", tmp_path / "out") == 0
    dataset = run_folder.read_dataset(tmp_path / "out")
    assert dataset.step.values.tolist() == [0, 1, 2, 3]
    assert np.isnan(dataset.l2.values).tolist() == [[False] * 4, [False, True, False, False]]


def test_equal_checkpoints_are_imported_and_named(tmp_path):
    pattern = write_steps(tmp_path / "a", [0, 1], range(8))
    for step in (1, 5):
        shutil.copy(tmp_path / "a/run0/0.npz", tmp_path / f"a/run0/{step}.npz")
    shutil.copy(tmp_path / "a/run0/3.npz", tmp_path / "a/run1/3.npz")
    says = (
        "checkpoints with the same content: step 0 of run '0' = step 1 of run '0' = step 5 of run "
        "'0'; step 3 of run '0' = step 3 of run '1'$"
    )
    with pytest.warns(UserWarning, match=says):
        assert seedmap("import", "checkpoints", pattern, "--out", tmp_path / "out") == 0
    assert not np.isnan(run_folder.read_dataset(tmp_path / "out").l2.values).any()


def test_a_shard_of_another_step_is_named_and_a_frozen_tensor_is_not(tmp_path):
    for run, step in itertools.product(range(2), range(4)):
        (tmp_path / f"a/{run}").mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([run, 0 if (run, step) == (1, 3) else step])
        weights = {"1.weight": rng.normal(size=(3, 3)), "frozen.weight": np.eye(3)}
        if (run, step) == (1, 3):  # its first tensor is that of step 0
            rng = np.random.default_rng(9)
        weights |= {"2.weight": rng.normal(size=(3, 3)), "2.bias": np.zeros(3)}
        np.savez(tmp_path / f"a/{run}/{step}.npz", **weights)
    rules = tmp_path / "rules.toml"
    rules.write_text(
        "[[rule]]\nname = 'weight'\nrole = 'matrix'\n[[rule]]\nname = 'bias'\nrole = 'bias'\n"
    )
    pattern = str(tmp_path / "a/{run}/{step}.npz")
    says = (
        "^checkpoints with some of the same tensors: 1 of 3 in step 0 of run '1' and step 3 of "
        "run '1'$"
    )
    with pytest.warns(UserWarning, match=says):
        assert measured_in(pattern, "--out", tmp_path / "out", "--rules", rules) == 8


def test_resume_measures_what_has_come_and_keeps_what_has_gone(tmp_path, capsys):
    pattern = write_steps(tmp_path / "a", [0, 1], range(3))
    out = tmp_path / "out"
    arguments = [pattern, "--out", out]
    assert measured_in(*arguments) == 6
    config = json.loads((out / "config.json").read_text())
    assert config["import"]["pattern"] == "../a/run{run}/{step}.npz"  # no path of the machine
    assert measured_in(*arguments, "--resume") == 0
    write_steps(tmp_path / "a", [0, 1], [3])
    write_steps(tmp_path / "a", [2], range(4))
    (tmp_path / "a/run0/0.npz").unlink()
    with pytest.warns(UserWarning, match="1 checkpoints that were measured before are there no"):
        assert measured_in(*arguments, "--resume") == 6
    dataset = run_folder.read_dataset(out)
    assert dataset.l2.shape == (3, 4)
    assert not np.isnan(dataset.l2.values).any()
    (out / "sweep.json").write_text("{}")  # as of a fit
    write_steps(tmp_path / "a", [0], [4])
    assert "is fitted, and new checkpoints have come since; add --overwrite" in refused(
        capsys, "checkpoints", *arguments, "--resume"
    )
    with pytest.warns(UserWarning, match="there no longer"):
        assert measured_in(*arguments, "--resume", "--overwrite") == 1


def test_a_resume_that_is_cut_short_keeps_all_that_was_measured(tmp_path):
    pattern = write_steps(tmp_path / "a", [0, 1], range(3))
    arguments = [pattern, "--out", tmp_path / "out"]
    assert measured_in(*arguments) == 6
    write_steps(tmp_path / "a", [0, 1], [3, 4])
    command = ["import", "checkpoints", *arguments, "--resume"]
    assert len(importing_stopped_after(1, *command)) == 1
    assert measured_in(*arguments, "--resume") == 3


def test_what_a_former_import_has_measured_is_checked(tmp_path, capsys):
    pattern = write_steps(tmp_path / "a", [0], range(3))
    arguments = [pattern, "--out", tmp_path / "out"]
    assert measured_in(*arguments) == 3
    (tmp_path / "out" / "measured.jsonl").write_text("[1]\n")
    assert "measured.jsonl is damaged" in refused(capsys, "checkpoints", *arguments, "--resume")


def test_unfinished_checkpoints_are_named_before_work_begins(tmp_path, capsys):
    out = tmp_path / "out"
    for step in range(3):
        params = {"Dense_0": {"kernel": jnp.full((3, 2), 1.0 + step), "bias": jnp.arange(2.0)}}
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save((tmp_path / "a" / "0" / f"{step}").resolve(), params)
    shutil.copytree(tmp_path / "a" / "0", tmp_path / "a" / "1")
    shutil.rmtree(tmp_path / "a/1/2/d")
    (tmp_path / "a/1/1/_METADATA").unlink()
    (tmp_path / "a/0/3").mkdir()
    arguments = [str(tmp_path / "a/{run}/{step}"), "--out", out]
    said = refused(capsys, "checkpoints", *arguments)
    assert "3 of 7 checkpoints are not whole" in said
    assert all(f"a/{where}" in said for where in ("0/3", "1/1", "1/2"))
    assert not out.exists()
    with pytest.warns(UserWarning) as warned:  # noqa: PT030
        assert measured_in(*arguments, "--skip-unfinished") == 4
    assert "left out, 3 of 7 checkpoints are not whole" in str(warned[0].message)
    (
        shutil.rmtree(tmp_path / "a/0/3"),
        shutil.rmtree(tmp_path / "a/1/1"),
        shutil.rmtree(tmp_path / "a/1/2"),
    )
    assert measured_in(*arguments, "--resume") == 0  # once removed, nothing is measured anew


@pytest.mark.parametrize("kind", ["snapshots by reference", "a model's folder"])
def test_a_cache_of_the_hub(kind, tmp_path):
    """As huggingface_hub lays it out: blobs, and snapshots of links to them."""
    for run in range(2):
        for step in (0, 1000):
            name = f"models--org--net-seed{run}"
            name += "" if kind.startswith("snap") else f"-step{step}"
            revision = f"step{step}" if kind.startswith("snap") else "main"
            commit = f"{run}{step}".ljust(40, "0")
            model = tmp_path / "hub" / name
            for folder in ("blobs", "refs", f"snapshots/{commit}"):
                (model / folder).mkdir(parents=True, exist_ok=True)
            weight = torch.full((3, 2), 1.0 + run + step)
            torch.save({"fc.weight": weight, "fc.bias": weight[:, 0]}, model / "blobs" / commit)
            (model / "refs" / revision).write_text(commit)
            link = model / "snapshots" / commit / "pytorch_model.bin"
            link.symlink_to(f"../../blobs/{commit}")
    pattern = "models--org--net-seed{run}"
    pattern += "/refs/step{step}" if kind.startswith("snap") else "-step{step}"
    out = tmp_path / "out"
    assert seedmap("import", "checkpoints", str(tmp_path / "hub" / pattern), "--out", out) == 0
    dataset = run_folder.read_dataset(out)
    np.testing.assert_allclose(dataset.mean_w.values, [[1, 1001], [2, 1002]])


# Several processes


@pytest.mark.slow
def test_processes_share_an_import_and_collect_puts_it_together(tmp_path, capsys):
    pattern = write_steps(tmp_path / "a", range(4), range(5))
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert seedmap("import", "checkpoints", pattern, "--out", whole) == 0
    command = [sys.executable, "-m", "seedmap", "import", "checkpoints", pattern, "--share"]
    command += ["--out", str(out)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == [None, None]
    assert [process.returncode for process in both] == [0, 0]
    assert lines_of(out) == {str(run): 5 for run in range(4)}  # none twice
    assert seedmap("collect", out) == 0
    assert f"Next: seedmap fit {out}" in capsys.readouterr().out
    assert content(out) == content(whole)
    assert not (out / "training").exists()


def test_a_run_that_another_process_measures_is_left_to_it(tmp_path, capsys):
    pattern = write_steps(tmp_path / "a", range(2), range(3))
    out = tmp_path / "out"
    held = take(out / "training" / "run-0", "import checkpoints")
    with lock(out, "import checkpoints", shared=True):  # another process's
        assert measured_in(pattern, "--out", out, "--share") == 3
        assert "Measured a share" in capsys.readouterr().out
        let_go(held)
    capsys.readouterr()
    assert seedmap("collect", out) == 2
    assert "3 of 6 checkpoints are not measured yet" in capsys.readouterr().err
    assert measured_in(pattern, "--out", out, "--share") == 3
    assert seedmap("collect", out) == 0
    assert "remove --overwrite" in refused(
        capsys, "checkpoints", pattern, "--out", out, "--share", "--overwrite"
    )


def test_progress_counts_checkpoints_and_bytes(tmp_path):
    pattern = write_steps(tmp_path / "a", range(2), range(3))
    size = sum(path.stat().st_size for path in (tmp_path / "a").rglob("*.npz"))
    told = []
    import_checkpoints(Source(pattern), tmp_path / "out", 0.9, callback=told.append)
    assert [(each.done, each.total) for each in told] == [(i, 6) for i in range(7)]
    assert (told[0].bytes_done, told[-1].bytes_done, told[-1].bytes_total) == (0, size, size)


def test_an_unfinished_import_of_a_former_version_is_refused(here, tmp_path, capsys):
    out = tmp_path / "out"
    importing_stopped_after(1, "import", "checkpoints", PATTERN, "--out", out)
    begun = out / "training" / "import.json"
    content = json.loads(begun.read_text())
    del content["format"]
    begun.write_text(json.dumps(content))
    assert "whose files are others; finish" in refused(
        capsys, "checkpoints", PATTERN, "--out", out, "--resume"
    )


def test_another_layout_is_refused_with_the_difference(here, tmp_path, capsys):
    out, rules = tmp_path / "out", tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "weight|bias"\nrole = "ignore"\n')
    arguments = ["import", "checkpoints", PATTERN, "--out", out]
    importing_stopped_after(1, *arguments)
    rules.write_text(
        "[[rule]]\nname = 'embed|LayerNorm|predictions'\nrole = 'ignore'\n"
        "[[rule]]\nname = 'weight$'\nrole = 'matrix'\n[[rule]]\nname = 'bias'\nrole = 'bias'\n"
    )
    capsys.readouterr()
    assert seedmap(*arguments, "--rules", rules, "--resume") == 2
    said = capsys.readouterr().err
    assert "layout was 'bert' and is 'rules.toml'" in said
    assert "rule.1 was" in said
    assert said.count("\n") == 1
    assert seedmap(*arguments, "--rules", rules, "--overwrite") == 0
    rules.write_text(rules.read_text().replace("'bias'\nrole = 'bias'", "'bias'\nrole = 'ignore'"))
    capsys.readouterr()
    assert seedmap(*arguments, "--rules", rules, "--resume") == 2
    assert "rule.3 was \"name = 'bias', role = 'bias'" in capsys.readouterr().err


def test_pythia_revisions_as_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2, 10):
        model = models.gpt_neox(seed)
        for step in (0, 1, 512, 1000):
            model.half().save_pretrained(f"pythia-14m-seed{seed}/step{step}")
            models.train(model.float(), 1)
    found = find_checkpoints("pythia-14m-seed{run}/step{step}")
    assert [one.run for one in found[::4]] == ["1", "2", "10"]
    assert [one.step for one in found[:4]] == [0, 1, 512, 1000]
    pattern = "pythia-14m-seed{run}/step{step}"
    assert seedmap("import", "checkpoints", pattern, "--out", "run") == 0
    dataset = run_folder.read_dataset(tmp_path / "run")
    assert json.loads((tmp_path / "run/config.json").read_text())["import"]["layout"] == "gpt-neox"
    model = models.gpt_neox(2).half().float()
    left_out = ("embed", "lm_head", "norm")
    weights = torch.cat([
        tensor.detach().flatten() for name, tensor in model.named_parameters()
        if name.endswith("weight") and not any(word in name for word in left_out)
    ])  # fmt: skip
    assert dataset.mean_w.values[1, 0] == pytest.approx(float(weights.double().mean()), rel=1e-5)
    assert dataset.median_w.values[1, 0] == pytest.approx(np.median(weights), rel=1e-6)


in_graph = jax.jit(weight_metrics)


def test_flax_parameters_from_orbax_agree_with_the_trainer(tmp_path):
    values = []
    for seed in range(2):
        for step in (5, 10, 15):
            key = np.random.default_rng([seed, step])
            params = {
                "Dense_0": {
                    "kernel": jnp.asarray(key.normal(size=(7, 5)), jnp.float32),
                    "bias": jnp.asarray(key.normal(size=5), jnp.float32),
                }
            }
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save((tmp_path / f"{seed}" / f"{step}" / "default").resolve(), params)
            values.append({k: float(v) for k, v in in_graph(params).items()})
    pattern = str(tmp_path / "{run}" / "{step}")
    assert seedmap("import", "checkpoints", pattern, "--out", tmp_path / "run") == 0
    dataset = run_folder.read_dataset(tmp_path / "run")
    for name in PAPER_METRICS:
        expected = [of[name] for of in values]
        np.testing.assert_allclose(dataset[name].values.ravel(), expected, rtol=1e-5)


def refused(capsys, *arguments):
    capsys.readouterr()
    assert seedmap("import", *arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("seedmap: ")
    return said


def place(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save({"fc.weight": torch.ones(2, 2)}, folder / name)


def test_patterns_that_find_nothing_or_twice_are_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = ["--out", "out"]
    assert "name what to import" in refused(capsys)
    assert "--out must be given" in refused(capsys, "runs")
    assert "has no {run} and no {step}; write {run}" in refused(capsys, "checkpoints", "a/*", *out)
    assert "has no {run}" in refused(capsys, "checkpoints", "a/{step}", *out)
    assert "no checkpoint is at" in refused(capsys, "checkpoints", "a/{run}/{step}", *out)
    place(tmp_path, "a/0/last.pt", "a/0/best.pt")
    said = refused(capsys, "checkpoints", "a/{run}/{step}.pt", *out)
    assert "found 'best.pt', 'last.pt' there" in said
    place(tmp_path, "a/0/2k.pt", "a/0/2000.pt")
    said = refused(capsys, "checkpoints", "a/{run}/{step}.pt", *out)
    assert "step 2000 of run '0' is both a/0/2000.pt and a/0/2k.pt" in said
    assert not (tmp_path / "out").exists()


def test_a_run_with_one_checkpoint_and_missing_steps_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rule]]\nname = 'weight'\nrole = 'matrix'\n")
    place(tmp_path, "a/0/1.pt", "a/0/2.pt", "a/0/3.pt", "a/1/1.pt", "a/1/3.pt", "a/2/1.pt")
    with pytest.warns(UserWarning) as warned:  # noqa: PT030  # both are looked at below
        seedmap("import", "checkpoints", "a/{run}/{step}.pt", "--out", "out", "--rules", rules)
    said = " ".join(str(one.message) for one in warned)
    assert "runs left out, fewer than 2 checkpoints" in said
    assert "2 (1)" in said
    assert run_folder.read_dataset(tmp_path / "out").seed.values.tolist() == ["0", "1"]


def test_wild_cards_and_steps():
    assert [parse_step(text) for text in ("0", "20k", "2000K", "1.5M", "0.5k")] == [
        0, 20_000, 2_000_000, 1_500_000, 500
    ]  # fmt: skip
    for text in ("", "k", "1.5", "1.0005k", "-1", "1e3"):
        with pytest.raises(ValueError, match="is not a whole number"):
            parse_step(text)


def test_stars_and_special_characters_in_a_pattern(tmp_path):
    place(tmp_path, "a[1]/x/seed-3/it_10.pt", "a[1]/y/seed-4/it_10.pt", "a[1]/y/seed-4/it_20.pt")
    found = find_checkpoints(f"{tmp_path}/a[1]/*/seed-{{run}}/it_{{step}}.pt")
    assert [(one.run, one.step) for one in found] == [("3", 10), ("4", 10), ("4", 20)]
    deep = find_checkpoints(f"{tmp_path}/**/seed-{{run}}/it_{{step}}.pt")
    assert deep == found
    place(tmp_path, "b/seed-5/seed-5_7.pt", "b/seed-5/seed-6_7.pt")
    twice = find_checkpoints(f"{tmp_path}/b/seed-{{run}}/seed-{{run}}_{{step}}.pt")
    assert [one.path.name for one in twice] == ["seed-5_7.pt"]


def test_damaged_other_and_hostile_checkpoints_are_refused(here, tmp_path, capsys):
    copy, out = tmp_path / "hub", tmp_path / "out"
    for step in ("0k", "40k"):
        shutil.copytree(here / f"multiberts-seed_0-step_{step}", copy / f"0/{step}")
    arguments = ["checkpoints", f"{copy}/{{run}}/{{step}}", "--out", out]
    weights = copy / "0/40k/pytorch_model.bin"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    said = refused(capsys, *arguments)
    assert "1 of 2 checkpoints are not whole" in said
    assert "pytorch_model.bin is damaged" in said
    assert "--skip-unfinished" in said
    assert not out.exists()  # it is said before work begins
    weights.write_bytes(whole)
    tensors = torch.load(weights, weights_only=True)
    without = {name: tensor for name, tensor in tensors.items() if "pooler" not in name}
    torch.save(without, weights)
    said = refused(capsys, *arguments)
    assert "40k is of another network than step 0 of run '0'" in said
    assert "expected 33 matrices" in said
    assert lines_of(out) == {"0": 1}  # what was done is kept
    torch.save(without | {"more": Hostile()}, weights)
    said = refused(capsys, *arguments, "--resume")
    assert "pytorch_model.bin is refused" in said
    torch.save(tensors | {"bert.pooler.dense.scale": torch.ones(3)}, weights)
    said = refused(capsys, *arguments, "--resume")
    assert (
        "1 of 49 tensors are covered by no rule of layout bert: 'bert.pooler.dense.scale'" in said
    )
    torch.save(tensors, weights)
    assert seedmap("import", *arguments, "--resume") == 0


class Hostile:
    def __reduce__(self):
        return (os.abort, ())


def test_outcomes_that_do_not_fit_are_refused(here, tmp_path, capsys):
    out, table = ["--out", tmp_path / "out"], tmp_path / "losses.csv"
    arguments = ["checkpoints", PATTERN, *out, "--outcomes", table]
    cases = {
        "": "is empty",
        "seed,step,eval_loss\n": "has no column 'run'",
        "run,step,l1\n0,0,1\n": "column 'l1', which is computed",
        "run;step;eval_loss\n0;0;1\n": "columns are separated by ';'",
        "run,step,eval_loss\n": "no row for a checkpoint of run '0'; its runs are none",
        "run,step,eval_loss\n0,0\n": "line 2 has 2 cells, expected 3",
        "run,step,eval_loss\n0,begin,1\n": "line 2: step 'begin' is not a whole number",
        "run,step,eval_loss\n0,0,1\n0,0k,2\n": "remove one of the two",
        "run,step,eval_loss\n0,0,1\n": "no row for a checkpoint of run '1'",
        "run,step,eval_loss\n0,0,1\n0,20k,low\n": "line 3: column 'eval_loss' holds 'low'",
    }
    for text, words in cases.items():
        table.write_text(text)
        assert words in refused(capsys, *arguments)
    table.write_bytes(b"run,step,eval_loss\n0,0,\xff\n")
    assert "losses.csv is not UTF-8 text" in refused(capsys, *arguments)
    said = refused(capsys, *arguments[:-1], tmp_path / "nowhere.csv")
    assert "nowhere.csv cannot be read" in said
    assert "No such file" in said


def test_convergence_by_a_loss_beside_the_checkpoints(tmp_path, capsys):
    """As of the published MultiBERTs: the loss of masked words below a value."""
    pattern = write_steps(tmp_path / "a", range(2), range(4))
    table = tmp_path / "losses.csv"
    losses = [[3.0, 2.0, 1.7, 1.5], [3.0, 1.75, 1.8, 1.9]]
    rows = [f"{run},{step},{losses[run][step]}" for run in range(2) for step in range(4)]
    table.write_text("\n".join(["run,step,mlm loss", *rows]))
    out = tmp_path / "out"
    arguments = ["checkpoints", pattern, "--out", out, "--outcomes", table]
    for told, words in (
        (["mlm < 1.8"], "--converged: 'mlm' is no column of --outcomes and no metric; there are"),
        (["mlm loss"], "--converged: 'mlm loss' is no column compared with a number"),
        (["mlm loss < 1.8", "--threshold", "0.5"], "converged and threshold are both given"),
    ):
        assert words in refused(capsys, *arguments, "--converged", *told)
        assert not out.exists()
    assert seedmap("import", *arguments, "--converged", "mlm loss < 1.8") == 0
    dataset = run_folder.read_dataset(out)
    assert dataset.attrs["converged"] == "mlm loss < 1.8"
    assert dataset.convergence.values.tolist() == [2, 1]
    assert json.loads((out / "config.json").read_text())["threshold"] == 1.8
    assert measured_in(*arguments[1:], "--converged", "mlm loss < 1.8", "--resume") == 0
    said = refused(capsys, *arguments, "--converged", "mlm loss < 1.6", "--resume")
    assert "converged was 'mlm loss < 1.8' and is 'mlm loss < 1.6'" in said


def test_outcomes_are_merged_by_run_and_step(here, tmp_path):
    table = tmp_path / "losses.csv"
    rows = [
        f"{seed},{step},{100 * seed + i}"
        for seed in range(RUNS)
        for i, step in enumerate(STEPS[::2])
    ]
    table.write_text("\n".join(["run,step,perplexity", *reversed(rows), "9,1,1"]))
    out = tmp_path / "out"
    assert seedmap("import", "checkpoints", PATTERN, "--out", out, "--outcomes", table) == 0
    values = run_folder.read_dataset(out).perplexity.values
    np.testing.assert_array_equal(values[1, ::2], [100, 101, 102, 103])
    assert np.isnan(values[:, 1::2]).all()

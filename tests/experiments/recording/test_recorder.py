"""Any loop records its runs: metrics as of an import, kept through kills, read while it goes on."""

import doctest
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import seedmap as sm
from helpers.command import seedmap
from helpers.kills import Killed, killed_before, operations, refused_at
from seedmap.errors import UserError
from seedmap.experiments.recording.recorder import Recorder
from seedmap.experiments.runs import folder as run_folder
from seedmap.hmm.readers.kinds.recorded import IDENTITY, LINES, RECORDS
from seedmap.hmm.readers.read import read_long
from seedmap.lock import SERVICE, InUseError
from seedmap.trainer import PAPER_METRICS, weight_metrics

QUICK = "--states 2 --restarts 1 --iterations 4 --resamples 0 --metrics l1 l2".split()


def weights(step, seed=0):
    """Parameters of a small network at a step."""
    rng = np.random.default_rng([seed, step])
    shapes = {"fc1.weight": (6, 4), "fc1.bias": (6,), "fc2.weight": (3, 6), "fc2.bias": (3,)}
    return {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}


def record(folder, steps, run="seed0", seed=0):
    with Recorder(folder, run) as recorder:
        for step in steps:
            recorder.record(step, weights(step, seed), eval_loss=1.0 / (1 + step))


def steps_in(folder):
    """Steps by run, as a reader finds them."""
    table = read_long(folder).table
    return {run: table.steps[table.codes == i].tolist() for i, run in enumerate(table.runs)}


# From a loop to a map


def test_a_pytorch_loop_is_recorded_in_ten_lines_and_fitted(tmp_path, capsys):
    folder = tmp_path / "mine"
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] * x[:, 1] > 0).long()
    for seed in range(5):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        with sm.Recorder(folder, run=f"seed{seed}") as recorder:
            for step in range(60):
                loss = torch.nn.functional.cross_entropy(model(x), y)
                if step % 5 == 0:
                    recorder.record(step, model.state_dict(), train_loss=loss)
                optimizer.zero_grad(), loss.backward(), optimizer.step()
    runs = sm.load(folder)
    assert (len(runs), runs.metrics, runs.criterion) == (5, PAPER_METRICS, None)
    assert seedmap("fit", folder, *QUICK, "--converged", "train_loss < 0.6") == 0
    assert "Next: seedmap map" in capsys.readouterr().out
    assert sm.load(folder).criterion == "train_loss < 0.6"
    with Recorder(folder, "seed0") as recorder:
        recorder.record(60, model.state_dict(), train_loss=0.1)
    assert np.nanmax(sm.load(folder).steps) == 55  # as it was fitted
    assert np.nanmax(sm.read(folder).steps) == 60  # as it is now


def test_too_few_runs_leave_the_folder_as_it_was(tmp_path, capsys):
    record(tmp_path, range(3))
    assert seedmap("fit", tmp_path, *QUICK) == 2
    assert "5" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [RECORDS]


# Metrics


def test_the_metrics_are_those_of_an_import_of_the_same_parameters(tmp_path):
    for run in range(2):
        record(tmp_path / "mine", range(3), run=str(run), seed=run)
        for step in range(3):
            np.savez(tmp_path / f"run{run}_{step}.npz", **weights(step, run))
    pattern = str(tmp_path / "run{run}_{step}.npz")
    assert seedmap("import", "checkpoints", pattern, "--out", tmp_path / "out") == 0
    imported = run_folder.read_dataset(tmp_path / "out")
    recorded = sm.read(tmp_path / "mine")
    expected = np.stack([imported[name].values for name in PAPER_METRICS], axis=-1)
    np.testing.assert_array_equal(recorded.sequences.values, expected)
    np.testing.assert_array_equal(recorded.outcomes["eval_loss"], [[1, 1 / 2, 1 / 3]] * 2)


FLAX = {"params": {"Dense_0": {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.ones(3)}}}
FORMS = {
    "a nested tree of NumPy's": FLAX,
    "a nested tree of JAX's": jax.tree.map(jnp.asarray, FLAX),
    "Keras's weights by their paths": {
        f"Dense_0/{name}": value for name, value in FLAX["params"]["Dense_0"].items()
    },
    "PyTorch's, in bfloat16": {
        f"Dense_0.{name}": torch.tensor(value, dtype=torch.bfloat16)
        for name, value in FLAX["params"]["Dense_0"].items()
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_parameters_of_any_library_have_the_same_metrics(form, tmp_path):
    with Recorder(tmp_path, "a") as recorder:
        recorder.record(0, FORMS[form])
    frame = read_long(tmp_path).table.frame
    expected = weight_metrics(jax.tree.map(jnp.asarray, FLAX))
    for name in PAPER_METRICS:
        np.testing.assert_allclose(frame[name].iloc[0], expected[name], rtol=1e-5, err_msg=name)


def test_weights_that_are_no_longer_finite_are_divergence(tmp_path):
    for run in range(2):
        record(tmp_path, range(4), run=str(run))
    with Recorder(tmp_path, "1") as recorder:
        recorder.record(4, {name: np.nan * array for name, array in weights(4).items()})
    runs = sm.read(tmp_path)
    assert runs.diverged.tolist() == [False, True]


def test_runs_of_other_steps_stand_at_their_union(tmp_path):
    record(tmp_path, [0, 2, 4], run="a"), record(tmp_path, [0, 1, 4], run="b")
    runs = sm.read(tmp_path)
    assert runs.steps[0].tolist() == [0, 1, 2, 4]
    assert np.isnan(runs.sequences.values[:, :, 0]).tolist() == [
        [False, True, False, False],
        [False, False, True, False],
    ]


# Kills


def test_a_kill_at_any_file_operation_loses_no_record_that_was_made(tmp_path):
    def work(folder):
        record(folder, range(2))

    with operations() as seen:
        work(tmp_path / "whole")
    whole = (tmp_path / "whole" / RECORDS / "seed0" / LINES).read_bytes()
    assert [path.name for kind, path in seen if kind == "append"] == [LINES, LINES]
    for stop in range(len(seen)):
        folder = tmp_path / f"stop{stop}"
        with killed_before(stop), pytest.raises(Killed):
            work(folder)
        appended = sum(kind == "append" for kind, _ in seen[:stop])
        if appended:
            assert steps_in(folder) == {"seed0": [float(step) for step in range(appended)]}
        work(folder)
        assert (folder / RECORDS / "seed0" / LINES).read_bytes() == whole
        left = {path.name for path in (folder / RECORDS / "seed0").iterdir()}
        assert left == {IDENTITY, LINES}


def test_a_disk_that_is_full_leaves_what_was_recorded(tmp_path):
    with operations() as seen:
        record(tmp_path / "whole", range(2))
    for stop, (_, path) in enumerate(seen):
        if path.name in (LINES, IDENTITY):
            folder = tmp_path / f"stop{stop}"
            with refused_at(stop), pytest.raises(OSError, match="No space left"):
                record(folder, range(2))
            record(folder, range(2))
            assert steps_in(folder) == {"seed0": [0, 1]}


def test_a_torn_tail_is_cut_and_said_and_a_reader_passes_over_it(tmp_path):
    record(tmp_path, range(3))
    log = tmp_path / RECORDS / "seed0" / LINES
    whole = log.read_bytes()
    log.write_bytes(whole[:-20])
    assert steps_in(tmp_path) == {"seed0": [0, 1]}  # without a word: it may be being written
    with pytest.warns(UserWarning, match="bytes after its first 2 lines are cut short"):
        record(tmp_path, range(4))
    assert log.read_bytes().startswith(whole)
    assert steps_in(tmp_path) == {"seed0": [0, 1, 2, 3]}


def test_a_damaged_record_in_the_middle_is_said_by_the_reader(tmp_path):
    record(tmp_path, range(3))
    log = tmp_path / RECORDS / "seed0" / LINES
    log.write_bytes(log.read_bytes().replace(b'"step": 1', b'"step": 7'))
    with pytest.warns(UserWarning, match="what follows its first 1 records is damaged"):
        assert steps_in(tmp_path) == {"seed0": [0]}


ENDLESS = """
import sys
import numpy as np
from seedmap.experiments.recording.recorder import Recorder
sys.path.insert(0, sys.argv[1])
with Recorder(sys.argv[2], sys.argv[3]) as recorder:
    for step in range(int(sys.argv[4])):
        rng = np.random.default_rng(step)
        weights = {"fc.weight": rng.normal(size=(40, 30)), "fc.bias": np.ones(40)}
        recorder.record(step, weights, eval_loss=0.5)
        if step == 0:
            print("recording", flush=True)
"""


def child(folder, run, steps):
    command = [sys.executable, "-c", ENDLESS, "", str(folder), run, str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on(tmp_path):
    for pause in (0.0, 0.05, 0.2):
        process = child(tmp_path, "killed", 100_000)
        process.stdout.readline()
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    steps = steps_in(tmp_path)["killed"]
    assert len(steps) > 1
    for run in ("killed", "whole"):
        process = child(tmp_path, run, len(steps) + 3)
        process.communicate()
        assert process.returncode == 0
    killed, whole = ((tmp_path / RECORDS / run / LINES) for run in ("killed", "whole"))
    texts = [
        [line.split(b" ", 2)[2] for line in log.read_bytes().splitlines()]
        for log in (killed, whole)
    ]
    assert texts[0] == texts[1]
    assert steps_in(tmp_path)["killed"] == list(range(len(steps) + 3))


# Processes


def test_processes_record_runs_of_one_folder_at_once_and_not_one_run_twice(tmp_path):
    process = child(tmp_path, "theirs", 1_000_000)
    process.stdout.readline()
    with Recorder(tmp_path, "ours") as recorder:
        for step in range(20):
            rng = np.random.default_rng(step)
            recorder.record(step, {"fc.weight": rng.normal(size=(40, 30)), "fc.bias": np.ones(40)})
        with pytest.raises(InUseError, match=rf"`seedmap record` \(process {process.pid}"):
            Recorder(tmp_path, "theirs")
        with pytest.raises(InUseError, match=rf"process {os.getpid()}"):
            Recorder(tmp_path, "ours")
        read = steps_in(tmp_path)  # while both go on
        assert read["ours"] == list(range(20))
        assert read["theirs"][0] == 0
    process.kill()
    process.communicate()
    with Recorder(tmp_path, "theirs") as recorder:  # a kill lets it go
        assert recorder.last_step >= read["theirs"][-1]
    assert not (tmp_path / RECORDS / "ours" / SERVICE).exists()


def test_what_recorded_nothing_leaves_nothing(tmp_path):
    Recorder(tmp_path / "mine", "a").close()
    assert list(tmp_path.iterdir()) == []


# Going on


def test_steps_recorded_before_are_passed_over_where_they_are_the_same(tmp_path):
    record(tmp_path, range(3))
    record(tmp_path, range(1, 5))
    assert steps_in(tmp_path) == {"seed0": [0, 1, 2, 3, 4]}
    with Recorder(tmp_path, "seed0") as recorder:
        with pytest.raises(UserError, match="step 2 was recorded before with another l1"):
            recorder.record(2, weights(3), eval_loss=1 / 3)
        with pytest.raises(UserError, match=r"another eval_loss \(0.3.*, now None\)"):
            recorder.record(2, weights(2))


def test_a_training_that_goes_on_from_a_checkpoint_drops_what_came_after(tmp_path):
    record(tmp_path, range(5))
    with Recorder(tmp_path, "seed0") as recorder:
        recorder.drop_after(2)
        assert recorder.last_step == 2
        recorder.record(3, weights(30))
        recorder.drop_after(2)  # of this session, too
        recorder.record(4, weights(40))
    assert steps_in(tmp_path) == {"seed0": [0, 1, 2, 4]}


# Checks


@pytest.mark.parametrize("run", ["", "a/b", ".hidden", "a.part", "a\n", " a", "a" * 101, 3, ".."])
def test_a_name_that_is_no_folders_is_refused(run, tmp_path):
    with pytest.raises(UserError, match=r"^run is .*; it must be a name of 1 to 100 printable"):
        Recorder(tmp_path, run)
    assert list(tmp_path.iterdir()) == []


STEPS = [-1, 1.5, True, "3", None, np.float64(2.0)]


@pytest.mark.parametrize("step", STEPS, ids=map(repr, STEPS))
def test_a_step_that_is_no_whole_number_is_refused(step, tmp_path):
    says = r"a: step is .*; it must be a whole number, 0 or up"
    with Recorder(tmp_path, "a") as recorder, pytest.raises(UserError, match=says):
        recorder.record(step, weights(0))


def test_steps_rise(tmp_path):
    with Recorder(tmp_path, "a") as recorder:
        recorder.record(np.int64(3), weights(3))
        for step in (3, 2):
            with pytest.raises(UserError, match=f"step {step} comes after step 3; steps must rise"):
                recorder.record(step, weights(3))


VALUES = {
    "l2": (1.0, "'l2' is a metric, which is computed from the parameters"),
    "variance_lambda": (1.0, "'variance_lambda' is a metric"),
    "diverged": (1.0, "'diverged' is a name of the run folder's own"),
    "eval_loss": (float("nan"), "eval_loss is nan; it must be a finite number, or None"),
    "train_loss": (float("inf"), "train_loss is inf; it must"),
    "note": ("good", "note is 'good'; it must"),
    "several": (np.ones(2), "several is array"),
    "big": (10**400, "big is 1000"),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_is_no_finite_number_or_a_metrics_is_refused(name, tmp_path):
    value, says = VALUES[name]
    with Recorder(tmp_path, "a") as recorder, pytest.raises(UserError, match=says):
        recorder.record(0, weights(0), **{name: value})


def test_numbers_of_any_library_and_none_are_taken(tmp_path):
    values = {"a": 1, "b": np.float32(2), "c": torch.tensor(3.0, requires_grad=True)}
    values |= {"d/e f": jnp.asarray(4.0), "g": np.array(5), "h": None}
    with Recorder(tmp_path, "x") as recorder:
        recorder.record(0, weights(0), **values)
    frame = read_long(tmp_path).table.frame
    assert frame[["a", "b", "c", "d/e f", "g"]].iloc[0].tolist() == [1, 2, 3, 4, 5]
    assert "h" not in frame


def test_parameters_keep_their_names_and_shapes(tmp_path):
    other = weights(1) | {"fc2.bias": np.zeros(4, "f4")}
    fewer = {name: array for name, array in weights(1).items() if name != "fc1.bias"}
    with Recorder(tmp_path, "a") as recorder:
        recorder.record(0, weights(0))
        with pytest.raises(UserError, match=r"'fc2.bias' is \[4\], and was \[3\] at the first"):
            recorder.record(1, other)
        with pytest.raises(UserError, match=r"'fc1.bias' is not there, and was \[6\]"):
            recorder.record(1, fewer)
    says = r"'fc2.bias' is \[4\]"
    with Recorder(tmp_path, "a") as recorder, pytest.raises(UserError, match=says):
        recorder.record(1, other)  # in another session
    says = r"was begun with another heads \(None, now 2\)"
    with Recorder(tmp_path, "a", heads=2) as recorder, pytest.raises(UserError, match=says):
        recorder.record(1, weights(1))


PARAMETERS = {
    "a module": (torch.nn.Linear(2, 2), "parameters is a Linear; expected a dict of arrays"),
    "nothing": ({}, "parameters are empty"),
    "lists": ({"fc.weight": [[1.0]]}, "is a float; expected a dict of arrays"),
    "unknown": ({"x": np.ones((2, 2))}, "names of no known layout"),
}


@pytest.mark.parametrize("what", PARAMETERS)
def test_parameters_that_are_not_understood_are_refused(what, tmp_path):
    parameters, says = PARAMETERS[what]
    with Recorder(tmp_path / "mine", "a") as recorder, pytest.raises(UserError, match=says):
        recorder.record(0, parameters)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_recorder_and_a_folder_of_another_kind_are_refused(tmp_path):
    with Recorder(tmp_path / "mine", "a") as recorder:
        recorder.record(0, weights(0))
    with pytest.raises(UserError, match="the recorder is closed"):
        recorder.record(1, weights(1))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; name a folder"):
        Recorder(tmp_path / "file", "a")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.nc").write_text("")
    with pytest.raises(UserError, match="holds a run that was trained or imported"):
        Recorder(tmp_path / "run", "a")


def damage(path: Path, how):
    path.write_text(how(path.read_text()))


DAMAGE = {
    "is not JSON": lambda text: text[:-20],
    "has format 2": lambda text: text.replace('"format": 1', '"format": 2'),
    "it lacks fields": lambda text: text.replace('"counted"', '"other"'),
}


@pytest.mark.parametrize("says", DAMAGE)
def test_what_says_whose_the_records_are_is_checked(says, tmp_path):
    record(tmp_path, range(2))
    damage(tmp_path / RECORDS / "seed0" / IDENTITY, DAMAGE[says])
    for use in (lambda: Recorder(tmp_path, "seed0"), lambda: read_long(tmp_path)):
        with pytest.raises(UserError, match=f"{IDENTITY} .*{says}|{says}"):
            use()


def test_records_without_their_identity_are_refused(tmp_path):
    record(tmp_path, range(2))
    (tmp_path / RECORDS / "seed0" / IDENTITY).unlink()
    with pytest.raises(UserError, match=f"has no {IDENTITY}, which says"):
        Recorder(tmp_path, "seed0")


def test_runs_of_different_networks_are_refused(tmp_path):
    record(tmp_path, range(2))
    with Recorder(tmp_path, "other") as recorder:
        recorder.record(0, {"fc.weight": np.ones((2, 2)), "fc.bias": np.ones(2)})
    with pytest.raises(UserError, match=r"seed0 is of another network than .*other: its metrics"):
        read_long(tmp_path)


def test_a_folder_without_a_whole_record_is_refused(tmp_path):
    record(tmp_path, range(1))
    (tmp_path / RECORDS / "seed0" / LINES).write_bytes(b"")
    with pytest.raises(UserError, match="holds no record yet"):
        read_long(tmp_path)


def test_runs_of_several_folders_are_told_apart(tmp_path):
    record(tmp_path / "one", range(2)), record(tmp_path / "two", range(2), seed=1)
    assert list(steps_in(tmp_path)) == ["one", "two"]


def test_the_example():
    assert doctest.testmod(sys.modules[Recorder.__module__]) == (0, 4)

"""`seedmap overhead`: modes in turns, in processes of their own; what fails keeps its row."""

import csv
import json
import sys
from dataclasses import astuple, dataclass, field
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings, strategies as st

from helpers.command import seedmap
from helpers.schemas import assert_of_schema
from seedmap.experiments.overhead import networks as networks_module, processes
from seedmap.experiments.overhead.child import Job
from seedmap.experiments.overhead.figures import plot_kernels, plot_overhead
from seedmap.experiments.overhead.measuring import (
    Settings,
    Timing,
    Trial,
    estimate_seconds,
    fit_together,
    measure,
    turns,
)
from seedmap.experiments.overhead.modes import MODES, find_modes, note_of, usual_modes
from seedmap.experiments.overhead.networks import KERNEL_SIZES, NETWORKS, find_networks
from seedmap.experiments.overhead.processes import Process, environment
from seedmap.experiments.overhead.report import cells, check_out
from seedmap.experiments.overhead.results import results_of
from seedmap.experiments.overhead.statistics import Interval, median_interval, ratio_interval
from seedmap.experiments.processes.child import ProcessFailed

# Modes and names


def test_the_default_mode_comes_first_and_once():
    assert [mode.name for mode in find_modes(["vmapped", "default", "vmapped"])] == [
        "default",
        "vmapped",
    ]
    assert find_modes(["flags:--xla_a=1 --xla_b=2"])[1].tools.flags == ("--xla_a=1", "--xla_b=2")


def test_usual_modes_run_where_they_are_usual():
    for platform in ("cpu", "gpu", "tpu"):
        assert all(platform in MODES[name].platforms for name in usual_modes(platform))
    assert note_of(MODES["deterministic"], "gpu") is None
    assert "compares a program with itself" in note_of(MODES["deterministic"], "cpu")


def test_flags_and_variables_reach_the_process(monkeypatch, tmp_path):
    monkeypatch.setenv("XLA_FLAGS", "--xla_mine=1")
    environ = environment(MODES["deterministic"], tmp_path)
    assert environ["XLA_FLAGS"] == "--xla_mine=1 --xla_gpu_deterministic_ops=true"
    assert environment(MODES["one-thread"], tmp_path)["NPROC"] == "1"
    highest = environment(MODES["float32-highest"], tmp_path)
    assert highest["JAX_DEFAULT_MATMUL_PRECISION"] == "float32"
    folders = {environment(m, tmp_path)["JAX_COMPILATION_CACHE_DIR"] for m in MODES.values()}
    assert len(folders) == len(MODES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--networks", "resnet19"], "--networks: unknown network 'resnet19'; there are: smallcnn"),
        (["--modes", "fast"], "--modes: unknown mode 'fast'; there are: default"),
        (["--modes", "flags:"], "--modes: 'flags:' has 'nothing' for a flag"),
        (["--modes", "flags:xla_x=1"], "--modes: 'flags:xla_x=1' has 'xla_x=1' for a flag"),
        (["--rounds", "1"], "--rounds is 1; it must be at least 2"),
        (["--seeds", "1"], "--seeds is 1; it must be at least 2"),
        (["--steps", "0"], "--steps is 0; it must be above 0"),
        (["--image-size", "0"], "--image-size is 0; it must be above 0"),
    ],
)
def test_wrong_input_is_one_line_before_anything_starts(arguments, said, capsys, tmp_path):
    assert seedmap("overhead", *arguments, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"seedmap: {said}")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_keras_its_networks_are_refused(monkeypatch):
    monkeypatch.setattr(networks_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"vgg16 is Keras's.*'seedmap\[networks\]'"):
        find_networks(["smallcnn", "vgg16"])
    assert [network.name for network in find_networks(["smallcnn"])] == ["smallcnn"]


def test_what_is_not_a_measurement_is_left_alone(tmp_path):
    (tmp_path / "overhead.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"holds overhead\.csv, which is not a measurement"):
        check_out(tmp_path, overwrite=True)
    (tmp_path / "overhead.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds another measurement.*--overwrite"):
        check_out(tmp_path, overwrite=False)
    check_out(tmp_path, overwrite=True)
    with pytest.raises(ValueError, match="is a file"):
        check_out(tmp_path / "overhead.csv", overwrite=True)


# Statistics


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.integers(-1000, 1000), min_size=6, max_size=40, unique=True))
def test_interval_is_that_of_the_order_statistics(values):
    found = median_interval(values)
    n = len(values)
    binomial = scipy.stats.binom(n, 0.5)
    k = int(binomial.ppf(0.025))  # textbook: the largest with P(X < k) <= 2.5 %
    ordered = sorted(values)
    assert (found.low, found.high) == (ordered[k - 1], ordered[n - k])
    assert found.median == np.median(values)
    inside = binomial.cdf(n - k) - binomial.cdf(k - 1)
    assert found.coverage == pytest.approx(inside)
    assert found.coverage >= 0.95


def test_few_values_have_the_widest_interval_and_say_what_it_covers():
    assert median_interval([3.0, 1.0, 2.0]) == Interval(2.0, 1.0, 3.0, 0.75)
    assert median_interval([5.0]) == Interval(5.0, 5.0, 5.0, 0.0)
    with pytest.raises(ValueError, match="at least 1"):
        median_interval([])


def test_ratios_are_within_rounds_so_that_drift_is_of_no_account():
    drift = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    found = ratio_interval(1.5 * drift, drift)
    assert (found.median, found.low, found.high) == (1.5, 1.5, 1.5)
    with pytest.raises(ValueError, match="1 rounds over 2"):
        ratio_interval([1.0], [1.0, 2.0])


def timing(network, mode, seconds, seeds=1, error=None):
    return Timing(network, mode, 32, seeds, list(seconds), 10, 1.0, 100, "alive together", error)


def test_results_are_a_step_and_seed_over_the_default_mode():
    rows = results_of(
        [
            timing("vgg16", "default", [2.0, 4.0]),
            timing("vgg16", "vmapped", [12.0, 8.0], seeds=4),
            timing("vgg16", "tf32", [], error="no such mode"),
            timing("vgg19", "default", [], error="out of memory"),
            timing("vgg19", "tf32", [3.0, 3.0]),
        ],
        steps=10,
    )
    assert astuple(rows[0].step_ms)[:3] == (300.0, 200.0, 400.0)
    assert astuple(rows[1].ratio)[:3] == (1.0, 0.5, 1.5)
    assert rows[1].step_ms.median == 250.0
    assert rows[2].step_ms is rows[2].ratio is rows[3].ratio is rows[4].ratio is None
    assert rows[4].step_ms.median == 300.0
    assert cells(rows[2])[:3] == ["vgg16", "tf32", "failed"]


# Turns


def test_every_mode_has_every_turn_and_each_round_begins_with_another():
    assert "".join(turns("abc", 4)) == "abc" + "bca" + "cab" + "abc"
    assert list(turns([], 3)) == []


def test_processes_live_together_where_memory_allows():
    modes = find_modes(["deterministic", "vmapped"])  # 1 + 1 + 4 seeds
    assert fit_together(modes, 4, {"bytes": 10, "bytes_limit": 86}, "gpu")
    assert not fit_together(modes, 4, {"bytes": 10, "bytes_limit": 85}, "gpu")
    assert not fit_together(modes, 4, {"bytes": 10, "bytes_limit": 1000}, "tpu")


def test_cost_is_estimated_from_the_trial():
    settings = Settings("cpu", Path("."), steps=10, rounds=2, seeds=4)
    modes = find_modes(["vmapped", "tf32"])  # the last does not run on a CPU
    assert estimate_seconds(Trial("a", 3.0, 0.5), modes, settings) == 2 * 3.0 + 5 * 23 * 0.5


class FakeProcess:
    """Takes a second a step; fails or stops in the turn it is told to."""

    def __init__(self, log, name, fails_at=None, error=ProcessFailed):
        self.log, self.name, self.fails_at, self.error = log, name, fails_at, error
        self.closed, self.runs = False, 0
        log.append(f"start {name}")

    def answer(self):
        if self.fails_at == 0:
            raise self.error("does not compile")
        known = {"parameters": 7, "bytes": 10, "bytes_limit": 100}
        return known | {"compile_seconds": 1.0, "step_seconds": 0.5}

    def run(self, num_steps):
        self.runs += 1
        self.log.append(f"run {self.name}")
        if self.runs == self.fails_at:
            raise self.error("killed")
        return float(num_steps)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        assert not self.closed
        self.closed = True
        self.log.append(f"close {self.name}")


@dataclass(frozen=True)
class FakeSettings(Settings):
    log: list = field(default_factory=list)
    made: list = field(default_factory=list)
    fails: dict = field(default_factory=dict)

    def start(self, network, mode):
        self.made.append(FakeProcess(self.log, mode.name, *self.fails.get(mode.name, ())))
        return self.made[-1]


MODES_TIMED = find_modes(["deterministic", "one-thread", "tf32"])


def fake(platform="cpu", **fails):
    named = {name.replace("_", "-"): value for name, value in fails.items()}
    return FakeSettings(platform, Path("."), steps=5, rounds=3, fails=named)


def measured(settings):
    done = []
    network = NETWORKS["smallcnn"]
    rows = measure(network, MODES_TIMED, settings, lambda what, number: done.append(number))
    assert sum(done) == len(MODES_TIMED) * (1 + settings.rounds)
    assert all(process.closed for process in settings.made)
    return {row.mode: row for row in rows}


def test_modes_take_turns_and_those_that_fail_keep_their_row():
    settings = fake(deterministic=(2,), one_thread=(0,))
    rows = measured(settings)
    assert list(rows) == ["default", "deterministic", "one-thread", "tf32"]
    assert rows["default"].seconds == [5.0, 5.0, 5.0]
    assert (rows["deterministic"].error, rows["deterministic"].seconds) == ("killed", [5.0])
    assert rows["one-thread"].error == "does not compile"
    assert rows["tf32"].error == "unsupported: CPU has no such mode; it is for GPU"
    assert [said for said in settings.log if said.startswith("run")] == [
        "run default",
        "run deterministic",
        "run deterministic",
        "run default",
        "run default",
    ]


def test_processes_that_do_not_fit_together_are_started_anew_each_round():
    settings = fake("tpu")
    rows = measured(settings)
    starts = [said for said in settings.log if said == "start default"]
    assert len(starts) == 1 + settings.rounds
    assert rows["default"].turns == "started anew each round"
    assert rows["one-thread"].error.startswith("unsupported: TPU")
    alive = 0
    for said in settings.log:
        alive += said.startswith("start") - said.startswith("close")
        assert alive <= 1


def test_ctrl_c_ends_all_processes():
    settings = fake(deterministic=(1, KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        measure(NETWORKS["smallcnn"], MODES_TIMED, settings, lambda *_: None)
    assert len(settings.made) == 3
    assert all(process.closed for process in settings.made)


# The command


@pytest.fixture
def fake_command(monkeypatch):
    """Runs the command with processes that only say how long they took."""

    def run(out, *networks, **fails):
        def start(self, network, mode):
            return FakeProcess([], mode.name, *fails.get(network.name, ()))

        device = {"platform": "cpu", "kind": "a fake", "count": 1, "cpu_cores": 2}
        monkeypatch.setattr(Settings, "start", start)
        monkeypatch.setattr(processes, "find_device", lambda scratch: device)
        names = ["--networks", *networks, "--modes", "one-thread", "--rounds", "2"]
        return seedmap("overhead", *names, "--out", out)

    monkeypatch.setattr("os._exit", sys.exit)  # what Ctrl-C ends with
    return run


def test_what_was_measured_before_ctrl_c_is_kept(fake_command, tmp_path, capsys):
    stops = {"smallcnn-bn": (1, KeyboardInterrupt)}
    assert fake_command(tmp_path / "a", "smallcnn", "smallcnn-bn", "six-layer-1", **stops) == 130
    assert_of_schema(tmp_path / "a" / "overhead.json")
    content = json.loads((tmp_path / "a" / "overhead.json").read_text())
    assert [(row["network"], row["mode"]) for row in content["rows"]] == [
        ("smallcnn", "default"),
        ("smallcnn", "one-thread"),
    ]
    assert content["notes"][-1].endswith("written: smallcnn-bn, six-layer-1.")
    page = tmp_path / "a" / "overhead.html"
    assert "smallcnn-bn, six-layer-1" in page.read_text()
    assert f"stopped; the networks timed before are in {page}" in capsys.readouterr().err


def test_when_nothing_could_be_timed_the_command_fails(fake_command, tmp_path, capsys):
    assert fake_command(tmp_path / "a", "smallcnn", smallcnn=(0,)) == 2
    assert "nothing could be timed" in capsys.readouterr().err
    assert "does not compile" in (tmp_path / "a" / "overhead.csv").read_text()
    assert fake_command(tmp_path / "b", "smallcnn", "six-layer-1", smallcnn=(0,)) == 0
    notes = json.loads((tmp_path / "b" / "overhead.json").read_text())["notes"]
    assert not any("Not measured" in note for note in notes)


# Processes


def test_a_killed_process_is_reported_as_such(tmp_path):
    with Process(Job("smallcnn", 4, 8), environment(MODES["default"], tmp_path)) as process:
        process._process.kill()
        with pytest.raises(ProcessFailed, match="killed"):
            process.answer()
        with pytest.raises(ProcessFailed, match="killed"):
            process.run(1)


@pytest.mark.slow
def test_command_times_in_processes_and_reports_what_fails(tmp_path, capfd):
    bad = "flags:--xla_there_is_no_such_flag=1"
    command = ["overhead", "--networks", "smallcnn", "--modes", "tf32", bad]
    sizes = ["--batch-size", "4", "--image-size", "8", "--steps", "2", "--rounds", "2"]
    out = tmp_path / "out"
    assert seedmap(*command, *sizes, "--out", out) == 0
    printed, bars = capfd.readouterr()
    assert printed.index("Cost: 1 networks x 3 modes x 2 rounds x 2 steps") < printed.index("ratio")
    assert "measure: 100%" in bars

    content = json.loads((out / "overhead.json").read_text())
    default, tf32, wrong = content["rows"]
    assert len(default["seconds"]) == 2
    assert min(default["seconds"]) > 0
    assert default["parameters"] == 15_722
    assert default["ratio"]["median"] == 1.0
    assert tf32["error"].startswith("unsupported: CPU")
    assert "--xla_there_is_no_such_flag" in wrong["error"]
    assert content["device"]["platform"] == "cpu"
    with (out / "overhead.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["mode"] for row in rows] == ["default", "tf32", bad]
    assert float(rows[0]["step_ms"]) == pytest.approx(500 * np.median(default["seconds"]))
    page = (out / "overhead.html").read_text()
    assert "no_such_flag" in page
    assert "<svg" in page
    assert (out / "figures" / "overhead.png").is_file()

    assert seedmap(*command, *sizes, "--out", out) == 2
    assert "add --overwrite" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mobilenet", "efficientnetb0", "resnet18", "six-layer-7"])
def test_every_kind_of_network_is_timed_in_every_mode_that_a_cpu_has(network, tmp_path):
    settings = Settings("cpu", tmp_path, steps=2, batch_size=4, rounds=2, seeds=2, image_size=32)
    modes = find_modes(["one-thread", "bfloat16", "vmapped"])
    rows = measure(NETWORKS[network], modes, settings, lambda *_: None)
    assert [row.error for row in rows] == [None] * 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_one_thread_is_one_thread(tmp_path):
    def threads(mode):
        with Process(Job("smallcnn", 16, 32), environment(mode, tmp_path)) as process:
            process.answer()
            tasks = Path(f"/proc/{process._process.pid}/task").iterdir()
            return sum("XLAEigen" in (task / "comm").read_text() for task in tasks)

    assert threads(MODES["default"]) > 1
    assert threads(MODES["one-thread"]) <= 1


# Figures


def made_up():
    rows = []
    for size in KERNEL_SIZES:
        name, seconds = f"six-layer-{size}", float(size)
        rows += [
            timing(name, "default", [seconds, 1.1 * seconds]),
            timing(name, "deterministic", [2 * seconds, 2.4 * seconds]),
            timing(name, "vmapped", [], error="out of memory")
            if size == 7
            else timing(name, "vmapped", [seconds, 1.2 * seconds], seeds=4),
        ]
    rows += [
        timing("vgg16", "default", [], error="killed"),
        timing("vgg16", "deterministic", [1.0, 2.0]),
        timing("vgg16", "vmapped", [], error="killed"),
    ]
    return results_of(rows, steps=10)


def test_bars_begin_at_the_default_and_failures_are_said():
    figure = plot_overhead(made_up())
    deterministic, vmapped = figure.axes
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in deterministic.patches]
    rows = [result for result in made_up() if result.mode == "deterministic"]
    expected = [result.ratio.median for result in rows if result.ratio]
    np.testing.assert_allclose(bars, [(1.0, ratio) for ratio in expected])
    words = [text.get_text().strip() for ax in (deterministic, vmapped) for text in ax.texts]
    assert words == ["no default", "failed", "failed"]
    names = [label.get_text() for label in deterministic.get_yticklabels()]
    assert names == [*(f"six-layer-{size}" for size in KERNEL_SIZES), "vgg16"]


def test_kernels_are_a_line_a_mode_with_failures_marked():
    figure = plot_kernels(made_up())
    left, right = figure.axes
    named = [line for line in left.lines if line.get_label() in ("default", "vmapped")]
    assert [len(line.get_xdata()) for line in named] == [4, 3]
    for ax in (left, right):
        assert sum(line.get_gid() == "failed" for line in ax.lines) == 1
    assert plot_kernels([r for r in made_up() if r.kernel_size in (None, 3)]) is None


def test_with_the_default_mode_alone_the_figure_says_so():
    figure = plot_overhead(results_of([timing("vgg16", "default", [1.0, 1.0])], steps=1))
    assert figure.axes[0].texts[0].get_text() == "only the default mode was timed"

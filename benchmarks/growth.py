"""How cost grows: processor seconds and peak memory by the number of seeds, of runs, by size.

    python benchmarks/growth.py FOLDER train --sizes 5 16 64 256 1024 4096         # seeds
    python benchmarks/growth.py FOLDER api --sizes 1 4 16 64 256 1024 4096           # seeds
    python benchmarks/growth.py FOLDER map --sizes 10 40 160 640 1280 2560 4096    # runs
    python benchmarks/growth.py FOLDER import --sizes 10 40 160 640 2560 4096      # runs
    python benchmarks/growth.py FOLDER checkpoints --sizes 1 4 16 64 256           # MiB of weights

Training is parities for 60 epochs, 10 records, by the command (5 seeds and more) or by `train` of
the library, in memory; maps (`fit` of 3 states, `map`, `report`) and
imports of logs are of planted runs of 60 records of the 14 metrics; checkpoints are 4, of 4 square
matrices each. Every command is a process of its own with an empty cache of compiled programs; the
system tells its processor time (all threads) and peak memory.

Fitted is cost = a + b size^p, on logarithms: a is what a process takes for nothing (imports,
compilation). FOLDER gets `growth-WHAT.md`, the table with p and its standard errors, and
`growth-WHAT.png`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import curve_fit

_KNOWN = 0.5  # standard error of an exponent that says something
RECORDS, CHECKPOINTS, MATRICES = 60, 4, 4
TRAIN = """
import sys
from seedmap.experiments import load_experiment
from seedmap.experiments.processes.cores import use_cores
use_cores()
experiment = load_experiment("parities")
config = experiment.presets["paper"].training
import seedmap as sm
task, optimizer, *_ = experiment.setup(config)
steps = -(-task.num_train // config.batch_size)
sm.train(task, optimizer, range(int(sys.argv[1])), batch_size=config.batch_size,
         steps=60 * steps, record_every=6 * steps)
"""
COMMANDS = {
    "train": ["train parities --out {out} --overwrite --seeds {size} --epochs 60 --record-every 6"],
    "api": ["api {size}"],
    "import": ["import metrics {source}.csv --out {out} --overwrite"],
    "map": [
        "import metrics {source}.csv --out {out} --overwrite",
        "fit {out} --overwrite --states 3 --restarts 2 --resamples 5",
        "map {out}",
        "report {out}",
    ],
    "checkpoints": [
        "import checkpoints {source}/run_{{run}}-step_{{step}}.npz --out {out} --overwrite"
        " --rules {source}/rules.toml"
    ],
}
UNITS = {"train": "seeds", "api": "seeds", "import": "runs", "map": "runs", "checkpoints": "MiB"}
RULES = "[[rule]]\nname = 'layer_'\nrole = 'matrix'\n"


class Cost(NamedTuple):
    """Processor seconds and peak memory in MiB of a command."""

    seconds: float
    memory: float


class Growth(NamedTuple):
    """The exponent p of a + b size^p, its standard error, and the fitted cost at the sizes."""

    exponent: float
    error: float
    fitted: np.ndarray

    def __str__(self) -> str:
        """Says the exponent, if b size^p stands out from a."""
        known = self.error < _KNOWN
        return f"{self.exponent:.2f} ± {self.error:.2f}" if known else "not determined"


def write_runs(path: Path, size: int) -> None:
    """Writes runs that pass through three places at times of their own, a row a record."""
    import pandas as pd

    from seedmap.trainer import PAPER_METRICS

    rng = np.random.default_rng(size)
    places, metrics = rng.normal(size=(3, 4)) * 3, rng.normal(size=(4, 14))
    ends = np.sort(rng.integers(10, 50, (size, 2)), axis=1)
    stage = (np.arange(RECORDS) >= ends[:, :1]).astype(int) + (np.arange(RECORDS) >= ends[:, 1:])
    x = (
        places[stage]
        + 0.3 * rng.normal(size=(size, 1, 4))
        + 0.1 * rng.normal(size=(*stage.shape, 4))
    )
    frame = pd.DataFrame((x @ metrics).reshape(-1, 14), columns=PAPER_METRICS)
    frame["run"] = np.repeat(np.arange(size), RECORDS)
    frame["step"] = np.tile(np.arange(RECORDS), size)
    frame["eval_accuracy"] = np.where(stage == 2, 0.95, 0.2).ravel()
    frame.to_csv(path, index=False)


def write_checkpoints(folder: Path, size: int) -> None:
    """Writes checkpoints of so many MiB of float32 each."""
    folder.mkdir()
    (folder / "rules.toml").write_text(RULES)
    rng, width = np.random.default_rng(size), round((size * 2**18 / MATRICES) ** 0.5)
    for step in range(CHECKPOINTS):
        layers = rng.standard_normal((MATRICES, width, width), np.float32)
        weights = {f"layer_{i}": layer for i, layer in enumerate(layers)}
        np.savez(folder / f"run_0-step_{step}.npz", **weights)


def cost_of(words: Sequence[str]) -> Cost:
    """Runs a command with an empty cache of compiled programs."""
    command = [str(Path(sys.executable).with_name("seedmap")), *words]
    if words[0] == "api":
        command = [sys.executable, "-c", TRAIN, *words[1:]]
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"XDG_CACHE_HOME": cache, "JAX_COMPILATION_CACHE_DIR": ""}
        child = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def growth_of(sizes: Sequence[int], costs: Sequence[float]) -> Growth | None:
    """Fits a + b size^p, a and b above 0, by least squares of logarithms; None below 4 sizes."""
    if len(sizes) < 4:
        return None
    x, y = np.log(sizes), np.log(costs)

    def log_cost(x, log_a, log_b, exponent):
        return np.logaddexp(log_a, log_b + exponent * x)

    start = (y.min(), y.max() - x.max(), 1.0)
    coefficients, covariance = curve_fit(log_cost, x, y, start, maxfev=20_000)
    fitted = np.exp(log_cost(x, *coefficients))
    return Growth(float(coefficients[2]), float(np.sqrt(covariance[2, 2])), fitted)


def measure(what: str, sizes: Sequence[int], folder: Path) -> dict[str, list[Cost]]:
    """Runs the commands at every size; prints a line for each."""
    costs: dict[str, list[Cost]] = {}
    for size in sizes:
        out, source = folder / f"{what}-{size}", folder / f"{what}-source-{size}"
        if what == "checkpoints" and not source.exists():
            write_checkpoints(source, size)
        elif what in ("import", "map"):
            write_runs(source.with_suffix(".csv"), size)
        for line in COMMANDS[what]:
            words = line.format(size=size, out=out, source=source).split()
            cost = cost_of(words)
            costs.setdefault(words[0], []).append(cost)
            print(f"{words[0]:<7} {size:>5}: {cost.seconds:8.1f} s, {cost.memory:8.0f} MiB")
            sys.stdout.flush()
    return costs


def table(what: str, sizes: Sequence[int], costs: dict[str, list[Cost]]) -> str:
    """A row a size, the exponents last."""
    names = [(command, quantity) for command in costs for quantity in Cost._fields]
    heads = [f"{command}, {'s' if q == 'seconds' else 'MiB'}" for command, q in names]
    lines = [f"| {UNITS[what]} | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for i, size in enumerate(sizes):
        cells = [f"{getattr(costs[command][i], q):,.1f}" for command, q in names]
        lines.append(f"| {size} | {' | '.join(cells)} |")
    grown = [growth_of(sizes, [getattr(c, q) for c in costs[command]]) for command, q in names]
    cells = ["" if growth is None else str(growth) for growth in grown]
    return "\n".join([*lines, f"| exponent | {' | '.join(cells)} |"]) + "\n"


def draw(path: Path, what: str, sizes: Sequence[int], costs: dict[str, list[Cost]]) -> None:
    """Draws cost by size on logarithmic axes, with the fits and a line of slope 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    labels = ("processor time, s", "peak memory, MiB")
    for ax, quantity, label in zip(figure.subplots(1, 2), Cost._fields, labels, strict=True):
        for number, (command, of_sizes) in enumerate(costs.items()):
            values = [getattr(cost, quantity) for cost in of_sizes]
            grown = growth_of(sizes, values)
            power = "" if grown is None else f": {grown}"
            ax.plot(sizes, values, "os^D"[number], color=f"C{number}", label=f"{command}{power}")
            if grown is not None:
                ax.plot(sizes, grown.fitted, color=f"C{number}", linewidth=0.8)
        top = max(getattr(of_sizes[-1], quantity) for of_sizes in costs.values())
        ax.plot(sizes, top * np.array(sizes) / sizes[-1], ":", color="0.5", label="linear")
        ax.set(xscale="log", yscale="log", xlabel=UNITS[what], ylabel=label)
        ax.legend(fontsize=7)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measures, writes table and figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 40, 160, 640])
    arguments = parser.parse_args()
    folder, what, sizes = arguments.folder, arguments.what, sorted(arguments.sizes)
    folder.mkdir(parents=True, exist_ok=True)
    costs = measure(what, sizes, folder)
    lines = table(what, sizes, costs)
    (folder / f"growth-{what}.md").write_text(lines)
    draw(folder / f"growth-{what}.png", what, sizes, costs)
    print(lines)


if __name__ == "__main__":
    main()

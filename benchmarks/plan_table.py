"""What every experiment needs on a TPU and a GPU, compiled for and never run on.

python benchmarks/plan_table.py --out FOLDER            # with the extras plan and plan-gpu
python benchmarks/plan_table.py --out FOLDER --only parities modular --targets gpu:h100
python benchmarks/plan_table.py --out FOLDER --only cifar10 --targets tpu:v5e:2x2 --alone

Each pair of experiment and target is compiled in a process of its own, its plan kept as
FOLDER/EXPERIMENT-TARGET.json; those that are there are not compiled again. Then the table, and
FOLDER/plan_seeds.png, the most seeds that fit a device. `--alone` is for programs that take minutes
to compile: one seed a device at a time, and no search for the most.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from seedmap import files
from seedmap.experiments import EXPERIMENTS, load_experiment
from seedmap.experiments.plan.jobs import job_of
from seedmap.experiments.plan.planning import make_plan
from seedmap.experiments.plan.results import Plan
from seedmap.experiments.plan.summary import bracket, bracket_text, gib, si
from seedmap.experiments.plan.targets import environment, parse_target
from seedmap.results import from_json, to_json

TARGETS = ("tpu:v5e:2x2", "gpu:h100")
HEADER = (
    "experiment",
    "compiled for",
    "compile, s",
    "memory of the seeds",
    "most seeds a device",
    "a step",
    "run, at least",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(EXPERIMENTS))
    parser.add_argument("--targets", nargs="*", default=list(TARGETS))
    parser.add_argument("--alone", action="store_true", help="one seed a device, no search")
    parser.add_argument("--compile", action="store_true", help="one pair, in this process")
    options = parser.parse_args()
    if options.compile:
        compile_pair(options.only[0], options.targets[0], options.out, options.alone)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    plans = {}
    for target in options.targets:
        for name in options.only:
            plans[name, target] = planned(name, target, options.out, options.alone)
            print(row(name, target, plans[name, target]), flush=True)
    draw(options.out / "plan_seeds.png", plans)


def planned(name: str, target: str, out: Path, alone: bool) -> Plan | str:
    """The plan of a pair, or the compiler's words where there is none."""
    path = out / f"{name}-{target.replace(':', '-')}.json"
    if not path.is_file():
        environ = {**os.environ, **environment(parse_target(target))}
        environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        words = [__file__, "--compile", "--out", str(path), "--only", name, "--targets", target]
        words += ["--alone"] if alone else []
        ended = subprocess.run(
            [sys.executable, *words], env=environ, text=True, capture_output=True, check=False
        )
        if ended.returncode:
            return ended.stderr.strip().splitlines()[-1][:200]
    return from_json(Plan, json.loads(path.read_text()))


def compile_pair(name: str, target: str, path: Path, alone: bool) -> None:
    """Writes the plan of an experiment's first preset, of 40 seeds where it has as many."""
    experiment = load_experiment(name)
    preset, chosen = next(iter(experiment.presets.items()))
    job = job_of(experiment, chosen.training, chosen.map.threshold)
    if alone:
        job = replace(job, seeds_at_once=1)
    named = {"experiment": name, "preset": preset}
    plan = make_plan(job, parse_target(target), search=not alone, **named)
    files.write_json(path, to_json(plan))


def row(name: str, target: str, plan: Plan | str) -> str:
    """A line of the table in Markdown."""
    if isinstance(plan, str):
        return f"| {name} | {target} | {plan} |" + " |" * (len(HEADER) - 3)
    training, bound = plan.compile_seconds["training"], plan.bound_seconds
    memory, most, between = plan.memory, plan.most_seeds, bracket(plan)
    fitting = f"{most.per_device}" if between is None else bracket_text(between)
    cells = (
        f"{name}, {plan.preset}",
        target,
        f"{training.processor:.0f}",
        f"{gib(memory.total)} ({memory.seeds} a device)",
        re.sub(r"(?<=\d)(?=(\d{3})+\b)", " ", fitting),
        f"{si(plan.operations.step)}FLOP, {si(plan.bytes.step)}B",
        f"{bound.run:.3g} s ({bound.binds})",
    )
    return f"| {' | '.join(cells)} |"


def draw(path: Path, plans: dict[tuple[str, str], Plan | str]) -> None:
    """The most seeds that fit a device, by experiment and chip; hollow where more may fit."""
    names = list(dict.fromkeys(name for name, _ in plans))
    figure = Figure(figsize=(7, 0.4 * len(names) + 1.2), layout="constrained")
    axes = figure.subplots()
    for marker, target in zip("os^vD", dict.fromkeys(target for _, target in plans), strict=False):
        made = {
            name: plan
            for (name, compiled_for), plan in plans.items()
            if compiled_for == target and isinstance(plan, Plan)
        }
        most = [plan.most_seeds.per_device for plan in made.values()]
        rows = [names.index(name) for name in made]
        (line,) = axes.plot(most, rows, marker, label=f"compiled for {target}")
        at_least = [i for i, plan in enumerate(made.values()) if bracket(plan)]
        hollow = {"markerfacecolor": "white", "color": line.get_color()}
        axes.plot([most[i] for i in at_least], [rows[i] for i in at_least], marker, **hollow)
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("most seeds that fit a device at once (hollow: at least)")
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()

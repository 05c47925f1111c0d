"""How cost grows: processor seconds and peak memory by the number of seeds, runs and records.

    python benchmarks/growth.py FOLDER train --sizes 1 4 16 64 256 1024 4096
    python benchmarks/growth.py FOLDER map --sizes 10 40 160 640 2560      # fit, map and report
    python benchmarks/growth.py FOLDER import --sizes 10 40 160 640 2560

Every size is a process of its own, whose processor time (all threads) and peak memory the system
tells; what a process of the smallest work takes (imports, compilation) is in every figure, so the
exponent is fitted to the sizes from the middle on. Training is parities for 60 epochs; maps and
imports are of planted runs of 60 records of the 14 metrics. The map is fitted at 3 states.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

RECORDS = 60
COMMANDS = {
    "train": ["train parities --out {out} --overwrite --seeds {size} --epochs 60 --record-every 6"],
    "import": ["import metrics {csv} --out {out} --overwrite"],
    "map": [
        "fit {out} --overwrite --states 3 --restarts 2 --resamples 5",
        "map {out}",
        "report {out}",
    ],
}


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


def measured(words: list[str]) -> tuple[float, float]:
    """Processor seconds of a command and its peak memory in MiB."""
    command = [str(Path(sys.executable).with_name("seedmap")), *words]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def exponent(sizes: list[int], values: list[float]) -> float:
    """Slope of log value on log size over the upper half of the sizes."""
    half = (len(sizes) - 1) // 2
    return float(np.polyfit(np.log(sizes[half:]), np.log(values[half:]), 1)[0])


def main() -> None:
    """Prints a line per size and command, and the exponents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=COMMANDS)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 40, 160, 640])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[tuple[float, float]]] = {}
    for size in arguments.sizes:
        out, csv = arguments.folder / f"run-{size}", arguments.folder / f"runs-{size}.csv"
        if arguments.what != "train" and not csv.exists():
            write_runs(csv, size)
        if arguments.what == "map" and not out.exists():
            measured(COMMANDS["import"][0].format(csv=csv, out=out).split())
        for line in COMMANDS[arguments.what]:
            words = line.format(size=size, out=out, csv=csv).split()
            seconds, memory = measured(words)
            found.setdefault(words[0], []).append((seconds, memory))
            print(f"{words[0]:<7} {size:>5}: {seconds:8.1f} s, {memory:8.0f} MiB", flush=True)
    for name, values in found.items():
        by_time, by_memory = (
            exponent(arguments.sizes, list(row)) for row in zip(*values, strict=True)
        )
        print(f"{name}: seconds grow as size^{by_time:.2f}, memory as size^{by_memory:.2f}")


if __name__ == "__main__":
    main()

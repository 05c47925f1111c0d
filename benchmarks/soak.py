"""Kill -9 at random moments, resume, and compare everything with an uninterrupted run.

    python benchmarks/soak.py --kills 20        # some 3 minutes on 2 cores

In turns a kill comes at a random moment of training, as soon as records are being appended, or as
soon as a checkpoint is being written (after a random number of each); what it met is read off the
files it left: records beyond the last checkpoint, half a checkpoint. At the end the metrics, the
final parameters, the summary (but for its seconds) and every figure must be the same to the bit.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from seedmap.experiments.runs.folder import load_params, read_dataset
from seedmap.trainer.storage.folder import read_job

SETTINGS = ["--preset", "quick", "--seeds", "10", "--epochs", "1200", "--seeds-at-once", "10"]


def command(verb: str, out: Path, *more: str) -> list[str]:
    """A seedmap command of this environment."""
    seedmap = Path(sys.executable).parent / "seedmap"
    return [str(seedmap), verb, "parities", "--out", str(out), *SETTINGS, *more]


def met(training: Path) -> str:
    """What a kill left."""
    job, path = read_job(training), training / "records.bin"
    steps = [int(folder.name) for folder in (training / "checkpoints").glob("[0-9]*[0-9]")]
    rows = path.stat().st_size / job.layout.row.itemsize if path.exists() else 0
    saved = max(steps, default=0) / job.record_every
    half = any((training / "checkpoints").glob("*tmp*"))
    left = f"{rows:g} records, checkpoint of record {saved:g}"
    return f"{left}, half a checkpoint beside it" if half else left


def appended(training: Path) -> int:
    path = training / "records.bin"
    return path.stat().st_size if path.exists() else 0


def checkpoints_begun(training: Path) -> int:
    """Grows with every checkpoint that is begun, also while it is written."""
    names = [path.name.split(".")[0] for path in (training / "checkpoints").glob("[0-9]*")]
    return max(map(int, names), default=0)


def wait_for(process: subprocess.Popen, training: Path, watched, times: int) -> None:
    """Returns as soon as the value watched has changed so many times, or the process has ended."""
    for _ in range(times):
        before = watched(training)
        while process.poll() is None and watched(training) == before:
            pass


def kill_once(out: Path, rng: random.Random, aim: str) -> str:
    """Starts or resumes, kills at the moment aimed at; returns what that left."""
    process = subprocess.Popen(
        command("train", out, "--resume", "--save-seconds", "0"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    training = out / "training" / "part-0"
    wait_for(process, training, appended, 1)
    if aim == "training":
        time.sleep(rng.uniform(0, 0.5))
    else:
        watched = appended if aim == "append" else checkpoints_begun
        wait_for(process, training, watched, rng.randint(1, 4))
    process.send_signal(signal.SIGKILL)
    process.wait()
    return met(training) if process.returncode == -9 else "had finished"


def same(first: Path, other: Path) -> list[str]:
    """What differs between two run folders."""
    differ = []
    a, b = read_dataset(first), read_dataset(other)
    if not a.identical(b):
        differ.append("metrics.nc")
    leaves = [jax.tree.leaves(load_params(folder)) for folder in (first, other)]
    if not all(np.array_equal(x, y) for x, y in zip(*leaves, strict=True)):
        differ.append("checkpoint")
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (first, other)]
    for summary in summaries:
        del summary["seconds"]
    if summaries[0] != summaries[1]:
        differ.append("summary.json")
    figures = sorted(path.name for path in (first / "figures").glob("*.png"))
    return differ + [
        name
        for name in figures
        if (first / "figures" / name).read_bytes() != (other / "figures" / name).read_bytes()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        reference, killed = Path(folder) / "whole", Path(folder) / "killed"
        for i in range(args.kills):
            aim = ("training", "append", "checkpoint")[i % 3]
            print(f"kill {i + 1}, in {aim}: {kill_once(killed, rng, aim)}", flush=True)
        subprocess.run(command("run", killed, "--resume"), check=True, capture_output=True)
        subprocess.run(command("run", reference), check=True, capture_output=True)
        differ = same(reference, killed)
    print("the same to the bit" if not differ else f"DIFFERENT: {', '.join(differ)}")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()

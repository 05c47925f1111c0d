"""Kill -9 at random moments, resume, and compare everything with an uninterrupted run.

    python benchmarks/soak.py --kills 20        # some 8 minutes on 2 cores

Half of the sessions save at every record, so that a kill mostly meets a write; the other half save
rarely, so that it meets training. What each kill met is read off the files it left. At the end the
metrics, the final parameters, the summary (but for its seconds) and every figure must be the same
to the bit.
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

from experiments.run_folder import load_params, read_dataset
from trainer.records import intact_rows
from trainer.store import read_job

SETTINGS = ["--preset", "quick", "--seeds", "10", "--epochs", "1200", "--seeds-at-once", "10"]


def command(verb: str, out: Path, *more: str) -> list[str]:
    """A seedmap command of this environment."""
    seedmap = Path(sys.executable).parent / "seedmap"
    return [str(seedmap), verb, "parities", "--out", str(out), *SETTINGS, *more]


def met(part: Path) -> str:
    """What a kill interrupted, by what it left."""
    if not (part / "job.json").exists():
        return "start"
    job = read_job(part)
    path = part / "records.bin"
    size = path.stat().st_size if path.exists() else 0
    if any((part / "checkpoints").glob("*tmp*")):
        return "checkpoint"
    if size % job.layout.row.itemsize:
        return "append"
    steps = [int(folder.name) for folder in (part / "checkpoints").glob("[0-9]*")]
    saved = max(steps, default=0) // job.record_every
    return "training" if intact_rows(path, job.layout) > saved else "between"


def kill_once(out: Path, rng: random.Random, often: bool) -> str:
    """Starts or resumes, kills at a random moment of the session; returns what it met."""
    seconds = "0" if often else "1"
    process = subprocess.Popen(
        command("train", out, "--resume", "--save-seconds", seconds),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    log = out / "training" / "part-0" / "log.jsonl"
    begun = log.stat().st_size if log.exists() else 0
    while process.poll() is None and (log.stat().st_size if log.exists() else 0) <= begun:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.6 if often else 1.5))
    process.send_signal(signal.SIGKILL)
    process.wait()
    return met(out / "training" / "part-0") if process.returncode == -9 else "finished"


def same(one: Path, other: Path) -> list[str]:
    """What differs between two run folders."""
    differ = []
    a, b = read_dataset(one), read_dataset(other)
    if not a.identical(b):
        differ.append("metrics.nc")
    leaves = [jax.tree.leaves(load_params(folder)) for folder in (one, other)]
    if not all(np.array_equal(x, y) for x, y in zip(*leaves, strict=True)):
        differ.append("checkpoint")
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (one, other)]
    for summary in summaries:
        del summary["seconds"]
    if summaries[0] != summaries[1]:
        differ.append("summary.json")
    figures = sorted(path.name for path in (one / "figures").glob("*.png"))
    return differ + [
        name
        for name in figures
        if (one / "figures" / name).read_bytes() != (other / "figures" / name).read_bytes()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        for i in range(args.kills):
            print(f"kill {i + 1}: {kill_once(killed, rng, often=i % 2 == 0)}", flush=True)
        subprocess.run(command("run", killed, "--resume"), check=True, capture_output=True)
        subprocess.run(command("run", whole), check=True, capture_output=True)
        differ = same(whole, killed)
    print("the same to the bit" if not differ else f"DIFFERENT: {', '.join(differ)}")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()

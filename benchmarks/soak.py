"""Stops commands at random moments by signals, and checks that nothing is lost or mixed.

    python benchmarks/soak.py --kills 20        # some 15 minutes on 2 cores

First a training is killed (SIGKILL) again and again and resumed. In turns a kill comes at a random
moment of training, as soon as records are being appended, or as soon as a checkpoint is being
written (after a random number of each); what it met is read off the files it left: records beyond
the last checkpoint, half a checkpoint. At the end the metrics, the final parameters, the summary
(but for its seconds) and every figure must be the same to the bit as of an uninterrupted run.

Then `train`, `fit`, `import checkpoints` and `noise` replace a run by --overwrite and are stopped
by SIGKILL, SIGTERM and SIGINT in turns, each at a random moment between start and end. Each time
the folder must hold the former results or the new ones, readable, and the signal must end it; at
the end the same command must go through.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from safetensors.numpy import save_file

from seedmap.experiments.noise.folder import load_study
from seedmap.experiments.runs.fitted import read_fitted
from seedmap.experiments.runs.folder import load_params, read_dataset
from seedmap.lock import SERVICE
from seedmap.trainer.storage.folder import read_job
from seedmap.transaction import settled

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


# Stopped while a run is replaced


class Replacing(NamedTuple):
    """A command that replaces results, files that are never the same twice, and what reads all."""

    words: list[str]
    replaced: tuple[str, ...]
    read: Callable[[Path], object]


def replacing(out: Path, hub: Path) -> dict[str, Replacing]:
    """The commands."""
    tiny = "--preset quick --seeds 5 --epochs 60".split()
    to_out = ["--out", str(out), "--overwrite"]
    pattern = str(hub / "seed_{run}-step_{step}.safetensors")
    fit = "--states 2 --restarts 2 --iterations 20 --resamples 0 --overwrite".split()
    study = "--preset quick --sources order --replicas 2 --epochs 60 --map none".split()
    return {
        "train": Replacing(
            ["train", "parities", *tiny, *to_out], ("config.json", "log.jsonl"), load_params
        ),
        "fit": Replacing(["fit", str(out), *fit], ("config.json",), read_fitted),
        "import": Replacing(
            ["import", "checkpoints", pattern, *to_out], ("config.json",), read_dataset
        ),
        "noise": Replacing(["noise", "parities", *study, *to_out], ("config.json",), load_study),
    }


def write_checkpoints(hub: Path) -> None:
    """Writes checkpoints of 4 runs at 30 steps."""
    rng = np.random.default_rng(0)
    for run in range(4):
        for step in range(1, 31):
            tensors = {"kernel": rng.normal(size=(300, 200)).astype("float32")}
            save_file(tensors, hub / f"seed_{run}-step_{step}.safetensors")


def checksums(out: Path, names: tuple[str, ...]) -> dict[str, int]:
    """Checksums of the named files, and of those in the named folders."""
    paths = [path for name in names for path in (out / name, *(out / name).rglob("*"))]
    return {str(path): zlib.crc32(path.read_bytes()) for path in paths if path.is_file()}


def stop_once(command: Replacing, out: Path, sent: signal.Signals, after: float) -> str:
    """Stops the command; returns what it left, "former" or "new", or what is wrong."""
    settled(out)
    former = checksums(out, command.replaced)
    seedmap = str(Path(sys.executable).parent / "seedmap")
    process = subprocess.Popen(
        [seedmap, *command.words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(after)
    process.send_signal(sent)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"WRONG: {sent.name} did not end it"
    try:
        command.read(out)
    except ValueError as error:
        return f"WRONG: {error}"
    now = checksums(out, command.replaced)
    stale = [path for path in former if now.get(path) == former[path]]
    if now == former:
        return "former"
    return "new" if not stale else f"WRONG: of the former results: {stale}"


def soak_replacing(folder: Path, kills: int, rng: random.Random) -> bool:
    """Stops every command so many times; prints a table; returns whether nothing was wrong."""
    out, hub = folder / "replaced", folder / "hub"
    hub.mkdir()
    write_checkpoints(hub)
    seedmap, right = str(Path(sys.executable).parent / "seedmap"), True
    for name, command in replacing(out, hub).items():
        times = []
        for _ in range(2):
            begun = time.perf_counter()
            subprocess.run([seedmap, *command.words], check=True, capture_output=True)
            times.append(time.perf_counter() - begun)
        left: Counter[str] = Counter()
        for i in range(kills):
            sent = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[i % 3]
            left[stop_once(command, out, sent, rng.uniform(0, 1.05 * times[-1]))] += 1
        done = subprocess.run([seedmap, *command.words], capture_output=True, text=True)
        wrong = [what for what in left if what.startswith("WRONG")]
        clean = done.returncode == 0 and not (out / SERVICE).exists()
        right = right and clean and not wrong
        print(
            f"{name}: {kills} stops, {left['former']} left the former results, {left['new']} the "
            f"new ones; then it {'goes through' if clean else f'FAILS: {done.stderr}'}",
            *wrong,
            flush=True,
        )
    return right


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
        right = soak_replacing(Path(folder), args.kills, rng)
    sys.exit(bool(differ) or not right)


if __name__ == "__main__":
    main()

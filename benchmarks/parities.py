"""Wall time of the whole command: `python benchmarks/parities.py [--repeats 3]`.

Each repeat is a pair of processes: the first with an empty compilation cache, imports and all
compilation included ("cold"), the second with the cache that the first left ("again"). "first step"
is from the start of the process to the first step of training.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path


def one_run(preset: str, out: Path, cache: Path) -> dict[str, float]:
    """Runs the command once; seconds of the whole and of its parts."""
    command = [str(Path(sys.executable).with_name("seedmap")), "run", "parities"]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    began, started = time.time(), time.perf_counter()
    subprocess.run(
        [*command, "--preset", preset, "--out", str(out)],
        check=True,
        capture_output=True,
        env=environment,
    )
    total = time.perf_counter() - started
    begin = json.loads((out / "log.jsonl").read_text().splitlines()[0])
    first = datetime.fromisoformat(begin["time"]).timestamp() - began
    seconds = json.loads((out / "config.json").read_text())["wall_seconds"]
    return {"whole": total, "first step": first, **seconds}


def main() -> None:
    """Prints the median of every part over the repeats, with the lowest and the highest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--preset", default="paper")
    arguments = parser.parse_args()
    runs = {"cold": [], "again": []}
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for kind, results in runs.items():
                out, cache = Path(folder) / kind, Path(folder) / "cache"
                results.append(one_run(arguments.preset, out, cache))
    for kind, results in runs.items():
        for phase in results[0]:
            seconds = [run[phase] for run in results]
            print(
                f"{kind:5s} {phase:10s} median {statistics.median(seconds):6.1f} s"
                f"  ({min(seconds):.1f} to {max(seconds):.1f})"
            )


if __name__ == "__main__":
    main()

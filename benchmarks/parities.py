"""Wall time of the whole command, cold: `python benchmarks/parities.py [--repeats 3]`.

Each repeat is a process of its own in an empty folder, imports and compilation included.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def one_run(preset: str) -> dict[str, float]:
    """Runs the command once; seconds of the whole and of its parts."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [str(Path(sys.executable).with_name("seedmap")), "run", "parities"]
        started = time.perf_counter()
        subprocess.run(
            [*command, "--preset", preset, "--out", str(out)], check=True, capture_output=True
        )
        whole = time.perf_counter() - started
        parts = json.loads((out / "config.json").read_text())["wall_seconds"]
    return {"whole": whole, **parts}


def main() -> None:
    """Prints the median of every part over the repeats, with the lowest and the highest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--preset", default="paper")
    arguments = parser.parse_args()
    runs = [one_run(arguments.preset) for _ in range(arguments.repeats)]
    for part in runs[0]:
        seconds = [run[part] for run in runs]
        print(
            f"{part:8s} median {statistics.median(seconds):6.1f} s"
            f"  ({min(seconds):.1f} to {max(seconds):.1f})"
        )


if __name__ == "__main__":
    main()

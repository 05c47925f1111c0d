"""What compiling takes, program by program: `python benchmarks/compiling.py > table.md`.

`seedmap run` of parities and of modular addition (preset cpu, cut short), each in a process of its
own with an empty cache of compiled programs and once more with what the first left; `--words` names
other command lines. Seconds are of tracing, lowering and compiling, on all threads: a program from
the cache is not free, as it is traced, lowered and read. `--timings` has the same of a command.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

COMMANDS = ("run parities", "run modular --preset cpu --epochs 200")  # of 2000: as many programs
_CHILD = """
import json, sys
from dataclasses import asdict
from seedmap import timings
from seedmap.experiments.commands.main import main

main([*sys.argv[2:], "--timings"])
open(sys.argv[1], "w").write(json.dumps(asdict(timings.measured())))
"""


def timings_of(words: list[str], folder: Path) -> dict:
    """Runs the command; returns its `seedmap.timings.Timings` as plain Python."""
    answer = folder / "timings.json"
    cache = {"XDG_CACHE_HOME": str(folder), "JAX_COMPILATION_CACHE_DIR": ""}
    subprocess.run(
        [sys.executable, "-c", _CHILD, answer, *words, "--out", folder / "run", "--overwrite"],
        env=os.environ | cache | {"OPENBLAS_NUM_THREADS": "1"},  # as the command sets it
        check=True,
        capture_output=True,
    )
    return json.loads(answer.read_text())


def table(command: str, cold: dict, again: dict) -> str:
    """A row a program: seconds cold, seconds again, how many there are and were in the cache."""
    lines = [
        f"`seedmap {command}`",
        "",
        "| program | cold, s | again, s | programs | from the cache, again |",
        "|---|---|---|---|---|",
    ]
    nothing = {"seconds": 0.0, "count": 0, "cached": 0}
    names = {**cold["programs"], **again["programs"]}
    rows = [
        (name, *(run["programs"].get(name, nothing) for run in (cold, again))) for name in names
    ]
    for name, first, second in sorted(rows, key=lambda row: -row[1]["seconds"]):
        lines.append(
            f"| {name} | {first['seconds']:.2f} | {second['seconds']:.2f} | {second['count']} | "
            f"{second['cached']} |"
        )
    seconds = [sum(of["seconds"] for of in run["programs"].values()) for run in (cold, again)]
    count, cached = (sum(row[2][key] for row in rows) for key in ("count", "cached"))
    waited = [run["parts"].get("compile", 0.0) for run in (cold, again)]
    totals = [run["total"] for run in (cold, again)]
    lines.append(f"| all programs | {seconds[0]:.2f} | {seconds[1]:.2f} | {count} | {cached} |")
    lines.append(f"| waited for, wall | {waited[0]:.2f} | {waited[1]:.2f} | | |")
    lines.append(f"| the command, wall | {totals[0]:.2f} | {totals[1]:.2f} | | |")
    return "\n".join(lines)


def main() -> None:
    """Prints a table a command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", nargs="+", default=COMMANDS, help="command lines, quoted")
    for command in parser.parse_args().words:
        with tempfile.TemporaryDirectory() as folder:
            words = shlex.split(command)
            cold, again = (timings_of(words, Path(folder)) for _ in range(2))
        print(table(command, cold, again), "\n", flush=True)


if __name__ == "__main__":
    main()

"""Forecasts of convergence on fresh seeds, beside regression on raw metrics and time alone.

    seedmap train parities --out train --seeds 40
    seedmap train parities --out fresh --seeds 40 --first-seed 100
    python benchmarks/forecast.py train fresh

The forecaster has seen the runs of the first folder alone; those of the second are scored, at 8
times evenly spread up to their last convergence. Some 20 s of CPU time on one core.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from seedmap.experiments.runs.forecast import load_raw
from seedmap.hmm import ScoredSet, fit_forecaster, forecast_skill
from seedmap.results import to_json

NUM_TIMES = 8


def text(interval) -> str:
    """A score and its 95 % interval."""
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def main() -> None:
    """Scores one folder's seeds by what the other's have taught, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path, help="run folder to learn from")
    parser.add_argument("fresh", type=Path, help="run folder of other seeds")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    train, fresh = load_raw(options.train), load_raw(options.fresh)
    made = fit_forecaster(train.sequences, train.convergence, train.steps)
    scored = ScoredSet(made, train.sequences, train.convergence, fresh.sequences, fresh.convergence)
    times = np.linspace(0, np.nanmax(fresh.convergence), NUM_TIMES + 2)[1:-1]
    rows = forecast_skill([scored], times[times >= train.steps[0]])
    errors = ", ".join(f"{k}: {error:.4f}" for k, error in made.errors.items())
    print(f"{made.num_states} states, share {made.share:.2f} beside time; out of fold {errors}\n")
    for name in ("brier", "concordance"):
        print(f"| {train.unit} | runs | {name}: HMM | regression | time | less reg. | less time |")
        print("|---|---|---|---|---|---|---|")
        for row in rows:
            score = getattr(row, name)
            scores = (score.hmm, score.regression, score.time)
            cells = map(text, (*scores, score.over_regression, score.over_time))
            print(f"| {row.upto:.0f} | {row.num_runs} | {' | '.join(cells)} |")
        print()
    for row in rows:
        width = "unbounded" if row.width is None else f"{row.width:.0f}"
        print(f"{row.upto:.0f}: {row.level:.0%} interval holds {text(row.coverage)}, width {width}")
    if options.json:
        options.json.write_text(json.dumps(to_json(rows), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

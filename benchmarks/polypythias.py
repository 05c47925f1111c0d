"""The published training map of PolyPythias beside ours, made of the scores alone.

    seedmap import polypythias_training_maps.tsv --metrics score --out run
    seedmap fit run --metrics score && seedmap map run
    python benchmarks/polypythias.py polypythias_training_maps.tsv run --figure polypythias.png

The table holds 10 seeds of Pythia-410m at 27 checkpoints: a score (a component of metrics of the
weights) and the state in a published map of 5 states (EleutherAI/pythia, polypythias/data,
Apache-2.0). Printed: the adjusted Rand index of the two, of all seeds and of each, and the states
that each seed goes through.
"""

import argparse
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seedmap.experiments.runs.folder import read_dataset
from seedmap.hmm.figures.style import save, state_colormap, styled
from seedmap.hmm.training_map.stability import adjusted_rand_index


def path_of(states: np.ndarray) -> str:
    """The states that a run goes through, as "0 1 4"."""
    return " ".join(str(state) for state, _ in groupby(states))


@styled
def draw(published: np.ndarray, ours: np.ndarray, steps: np.ndarray) -> Figure:
    """Two panels [seed, checkpoint] coloured by state."""
    figure = Figure(figsize=(7.0, 2.6), layout="constrained")
    colours, norm = state_colormap(int(max(published.max(), ours.max())) + 1)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, states, title in zip(
        panels, (published, ours), ("published", "by the scores alone"), strict=True
    ):
        panel.imshow(states, cmap=colours, norm=norm, aspect="auto", interpolation="none")
        ticks = np.arange(0, len(steps), 4)
        panel.set_xticks(ticks, [f"{steps[tick]:g}" for tick in ticks])
        panel.set_yticks(np.arange(len(states)))
        panel.set_title(f"States, {title}")
        panel.set_xlabel("step")
    panels[0].set_ylabel("seed")
    return figure


def main() -> None:
    """Prints the comparison, and draws it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="the published table")
    parser.add_argument("run", type=Path, help="run folder that was fitted")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    options = parser.parse_args()
    table = pd.read_csv(options.table, sep="\t").pivot(index="seed", columns="step", values="state")
    ours = read_dataset(options.run)["state"].values
    published = table.to_numpy(int)
    together = adjusted_rand_index(published, ours)
    print(f"adjusted Rand index {together:.3f}; {ours.max() + 1} states, published 5\n")
    print("| seed | published path | our path | adjusted Rand index |\n|---|---|---|---|")
    for seed, (theirs, mine) in enumerate(zip(published, ours, strict=True)):
        index = adjusted_rand_index(theirs[None], mine[None])
        print(f"| {seed} | {path_of(theirs)} | {path_of(mine)} | {index:.2f} |")
    if options.figure is not None:
        save(draw(published, ours, np.asarray(table.columns)), options.figure)


if __name__ == "__main__":
    main()

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

from seedmap.experiments.runs.folder import MAPS, read_dataset
from seedmap.experiments.runs.netcdf import read_netcdf
from seedmap.hmm.figures.style import save, state_colormap, styled
from seedmap.hmm.training_map.stability import adjusted_rand_index

NUM_STATES = 5  # of the published map


def path_of(states: np.ndarray) -> str:
    """The states that a run goes through, as "0 1 4"."""
    return " ".join(str(state) for state, _ in groupby(states))


@styled
def draw(maps: dict[str, np.ndarray], steps: np.ndarray) -> Figure:
    """A panel [seed, checkpoint] for each map, coloured by state."""
    figure = Figure(figsize=(7.0, 2.4), layout="constrained")
    colours, norm = state_colormap(max(int(states.max()) for states in maps.values()) + 1)
    panels = figure.subplots(1, len(maps), sharey=True)
    for panel, (title, states) in zip(panels, maps.items(), strict=True):
        panel.imshow(states, cmap=colours, norm=norm, aspect="auto", interpolation="none")
        ticks = np.arange(1, len(steps), 6)
        panel.set_xticks(ticks, [f"{steps[tick]:g}" for tick in ticks])
        panel.set_yticks(np.arange(len(states)))
        panel.set_title(title)
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
    published = table.to_numpy(int)
    decoded = read_netcdf(options.run, MAPS, "fit")["state"]
    maps = {
        "chosen": read_dataset(options.run)["state"].values,
        f"{NUM_STATES} states": decoded.sel(num_states=NUM_STATES).values,
    }
    for name, states in maps.items():
        together = adjusted_rand_index(published, states)
        print(f"{name}: {states.max() + 1} states, adjusted Rand index {together:.3f}")
    print(f"\n| seed | published path | {' | '.join(maps)} |\n|---|---|{'---|' * len(maps)}")
    for seed, theirs in enumerate(published):
        cells = [
            f"{path_of(states[seed])} ({adjusted_rand_index(theirs[None], states[seed][None]):.2f})"
            for states in maps.values()
        ]
        print(f"| {seed} | {path_of(theirs)} | {' | '.join(cells)} |")
    if options.figure is not None:
        save(draw({"published": published, **maps}, np.asarray(table.columns)), options.figure)


if __name__ == "__main__":
    main()

"""What the explorer shows of a mapped run."""

import numpy as np

from seedmap.experiments.runs.dataset import recorded_variables, seed_rows, time_unit
from seedmap.experiments.runs.fit_and_map import Mapped
from seedmap.hmm.autoregressive.map_sweep import MapSweep
from seedmap.hmm.explorer.content import Explored, size_sentences
from seedmap.hmm.training_map.drawn import branch_marks


def explored(mapped: Mapped) -> Explored:
    """Returns a mapped run as the explorer shows it: every run that was decoded, odd ones too."""
    fitted, summary = mapped.fitted, mapped.summary
    dataset, runs = fitted.dataset, fitted.sequences.runs
    rows = seed_rows(dataset, runs)
    convergence = np.full(len(runs), np.nan)
    convergence[fitted.on_the_map] = mapped.analysis.run_convergence
    names = sorted(recorded_variables(dataset), key=lambda name: name in fitted.saved.metrics)
    scale, sweep = fitted.saved.scale, fitted.sweep
    scales = {}
    if scale is not None:
        pairs = zip(scale.mean.tolist(), scale.std.tolist(), strict=True)
        scales = dict(zip(scale.metrics, pairs, strict=True))
    chosen, drawn = mapped.analysis.training_map, mapped.drawn.training_map
    branches = summary.branches
    return Explored(
        runs=runs,
        steps=np.broadcast_to(fitted.steps, fitted.paths.shape),
        unit=time_unit(dataset),
        convergence=convergence,
        paths={**fitted.decodings, summary.num_states: fitted.paths},
        num_states=summary.num_states,
        curves={name: dataset[name].values[rows] for name in names},
        scales=scales,
        on_the_map=fitted.on_the_map,
        diverged=np.flatnonzero(dataset.diverged.values[rows] >= 0),
        edges={drawn.num_states: drawn.edges, chosen.num_states: chosen.edges},
        marks={size: branch_marks(branches, size) for size in fitted.decodings}
        or {summary.num_states: dict.fromkeys(summary.detours, "detour")},
        drawn=drawn.num_states,
        reasons=size_sentences(sweep.sizes) if isinstance(sweep, MapSweep) else {},
    )

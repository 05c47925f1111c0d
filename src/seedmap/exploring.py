"""A map to explore in a notebook or a browser: the interactive part of a run's report."""

import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seedmap.files import write_text
from seedmap.hmm.training_map.drawn import branch_marks
from seedmap.map_fitting import MapFit

if TYPE_CHECKING:
    from seedmap.hmm.explorer.content import Explored
    from seedmap.mapping import Map

_HEIGHT = 900  # pixels of the frame in a notebook


@dataclass(frozen=True)
class Exploration:
    """A page to explore a map on, which needs no network; a notebook shows it in a frame.

    Attributes:
        page: its HTML.
    """

    page: str

    def __repr__(self) -> str:
        return f"Exploration({len(self.page) / 1e6:.1f} MB of HTML; save it with .save('map.html'))"

    def _repr_html_(self) -> str:
        source = escape(self.page, quote=True)
        style = f"width: 100%; height: {_HEIGHT}px; border: 0"
        return f'<iframe srcdoc="{source}" style="{style}" title="training map"></iframe>'

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the page to a file, such as `map.html`, and returns its path."""
        write_text(Path(path), self.page)
        return Path(path)


def explore(m: "Map") -> Exploration:
    """Returns the page of a map."""
    from seedmap.experiments.report.html import page_text
    from seedmap.hmm.explorer.content import to_content
    from seedmap.hmm.explorer.embed import explorer, style

    markup = explorer(to_content(explored(m)))
    return Exploration(page_text("Training map", [markup.runs], [markup.map], style()))


def explored(m: "Map") -> "Explored":
    """Returns a map as the explorer shows it: every run that was decoded, odd ones too."""
    from seedmap.hmm.explorer.content import Explored, size_sentences

    fit, runs = m.fit, m.fit.runs
    values = runs.sequences.values
    curves = {name: values[:, :, i] for i, name in enumerate(runs.metrics)}
    decodings, reasons, scale = {}, {}, m.fit.scale
    on_the_map = np.arange(len(runs))
    if isinstance(fit, MapFit):
        decodings, on_the_map = dict(fit.decodings), fit.on_the_map
        reasons = size_sentences(fit.made.candidates)
    scales = {}
    if scale is not None:
        pairs = zip(scale.mean.tolist(), scale.std.tolist(), strict=True)
        scales = dict(zip(scale.metrics, pairs, strict=True))
    drawn = m.drawn.training_map
    return Explored(
        runs=runs.names,
        steps=runs.steps,
        unit=runs.unit,
        convergence=runs.convergence,
        paths={**decodings, m.num_states: m.paths},
        num_states=m.num_states,
        curves={**{name: np.asarray(v) for name, v in runs.outcomes.items()}, **curves},
        scales=scales,
        on_the_map=on_the_map,
        diverged=np.flatnonzero(runs.diverged).tolist(),
        edges={drawn.num_states: drawn.edges, m.num_states: m.edges},
        drawn=drawn.num_states,
        marks={size: _marks(m, size) for size in {*decodings, m.num_states}},
        reasons=reasons,
        names=m.names,
    )


def _marks(m: "Map", size: int) -> dict[int, str]:
    """States of a map of some number of states that are branches or detours, by what they are."""
    if not isinstance(m.fit, MapFit):
        return dict.fromkeys(m.detours, "detour")
    return branch_marks(m.branches, size)

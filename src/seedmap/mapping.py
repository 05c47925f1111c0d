"""From runs to their training map."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from jaxtyping import Int, Real

from seedmap import hmm, map_exports
from seedmap.errors import UserError, did_you_mean
from seedmap.fitting import Fit, fit
from seedmap.map_fitting import MapFit, branches_of, check_emission, fit_on_common_scale
from seedmap.published import check_method, fit_published, visit_notes
from seedmap.runs import Runs, check_is_runs, numbers
from seedmap.showing import card

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from seedmap.exploring import Exploration


@dataclass(frozen=True, eq=False)
class Map:
    """The training map of a set of runs.

    Attributes:
        fit: the HMM, and all fits it was chosen among.
        analysis: the map's states and edges, the regression of the outcome on the bag of states,
            detours and dissimilarities, over the runs that are not odd.
        branches: states that some runs visit and others pass by, named ones first, and what speaks
            for each (`seedmap.hmm.find_branches`); none of Gaussian HMMs. A branch's state is in
            the map of its own number of states, which may not be this one.
        notes: what a reader should know, a sentence each.
        headline: what was found of forks, in a few words.
        names: of states, by number, as given by `rename`.
    """

    fit: MapFit | Fit
    analysis: hmm.Analysis
    branches: tuple[hmm.Branch, ...]
    notes: tuple[str, ...]
    headline: str
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def num_states(self) -> int:
        """Number of states."""
        return self.fit.num_states

    @property
    def paths(self) -> Int[np.ndarray, "run time"]:
        """The state of every record, int32 [run, time], -1 past a run's end."""
        return self.fit.paths

    @property
    def odd(self) -> tuple[str, ...]:
        """Names of the runs that fit no state well and are left off the map."""
        return self.fit.made.odd if isinstance(self.fit, MapFit) else ()

    @property
    def edges(self) -> tuple[hmm.Edge, ...]:
        """Transitions that some run takes."""
        return tuple(self.analysis.training_map.edges)

    @property
    def forking(self) -> bool:
        """Whether a branch is named.

        Of Gaussian HMMs, whether two runs visit states in different orders (Hu et al. 2023).
        """
        if isinstance(self.fit, MapFit):
            return any(branch.named for branch in self.branches)
        return self.analysis.training_map.forking

    @property
    def detours(self) -> tuple[int, ...]:
        """States of the branches that are detours.

        Of Gaussian HMMs, states that a converged run skips and that go with later convergence (Hu
        et al. 2023).
        """
        if isinstance(self.fit, MapFit):
            return tuple(branch.state for branch in self.branches if branch.detour)
        return tuple(self.analysis.detours)

    @cached_property
    def drawn(self) -> hmm.DrawnMap:
        """The map that `plot` draws: one in which the named branches can be seen.

        It is of another number of states where the map has no state of theirs.
        """
        chosen = self.analysis.training_map
        if not isinstance(self.fit, MapFit):
            return hmm.DrawnMap(chosen, (), self.detours)
        rows = self.fit.on_the_map
        decodings = {size: paths[rows] for size, paths in self.fit.decodings.items()}
        return hmm.map_to_draw(chosen, self.branches, self.analysis.sequences, decodings)

    def __repr__(self) -> str:
        runs, headline = len(self.fit.runs), self.headline.partition(" (")[0]
        return f"Map({self.num_states} states, {len(self.edges)} edges, {headline}, {runs} runs)"

    def _repr_html_(self) -> str:
        drawn = self.drawn.training_map
        names = self.names if drawn.num_states == self.num_states else {}
        header = ("state", "name", "share of records", "runs that visit it")
        rows = [
            (state, names.get(state, ""), float(drawn.occupancy[state]), int(visits))
            for state, visits in enumerate(drawn.visits)
        ]
        return card(repr(self), self.plot(), self.notes, header, rows)

    def rename(self, names: Mapping[int, str]) -> "Map":
        """Returns the same map with names for some states, which figures and tables then show.

        Args:
            names: by number of the state; those given before stay, an empty one takes it away.

        Raises:
            UserError: there is no such state, or two have one name.

        Example:
            m = m.rename({0: "memorising", 1: "generalising"})
        """
        unknown = [state for state in names if state not in range(self.num_states)]
        if unknown:
            states = f"states are 0 to {self.num_states - 1}"
            raise UserError(f"names: there is no state {unknown[0]!r}; {states}")
        both = {**self.names, **{state: str(name) for state, name in names.items()}}
        kept = {state: both[state] for state in sorted(both) if both[state]}
        if len(set(kept.values())) < len(kept):
            raise UserError(f"names must differ; got {', '.join(kept.values())}")
        return replace(self, names=kept)

    def decode(self, runs: Runs) -> Int[np.ndarray, "run time"]:
        """Returns the states of any runs with the same metrics, int32, -1 past a run's end.

        Raises:
            UserError: the runs have other metrics.
        """
        return self.fit.decode(runs)

    @overload
    def plot(self, ax: None = None) -> "Figure": ...
    @overload
    def plot(self, ax: "Axes") -> "Axes": ...
    def plot(self, ax: "Axes | None" = None) -> "Figure | Axes":
        """Draws the map: states in the order runs meet them, edges by how many runs take them.

        Where a named branch is a state of no map of `num_states`, that of the smallest number that
        has it is drawn (`drawn`), and says so; names are those of the map's own states.

        Args:
            ax: axes to draw on. Default: a new figure.

        Returns:
            `ax`, or the figure; `seedmap.hmm.figures.save` writes it as PNG, SVG or PDF.
        """
        from seedmap.hmm import figures

        drawn, claim = self.drawn, self.headline.partition(" (")[0]
        return figures.plot_training_map(
            drawn.training_map,
            drawn.detours,
            claim,
            drawn.heading,
            self.names if drawn.training_map.num_states == self.num_states else {},
            ax,
            drawn.branches,
        )

    @overload
    def plot_runs(self, ax: None = None) -> "Figure": ...
    @overload
    def plot_runs(self, ax: "Axes") -> "Axes": ...
    def plot_runs(self, ax: "Axes | None" = None) -> "Figure | Axes":
        """Draws the state of every record, a row a run, soonest to converge first.

        Runs must have been recorded at the same steps; where they were not, records are counted.

        Args:
            ax: axes to draw on. Default: a new figure.

        Returns:
            `ax`, or the figure.
        """
        from seedmap.hmm import figures

        runs, records = self.fit.runs, self.paths.shape[1]
        steps = runs.steps[:, :records]
        longest = steps[int(np.isfinite(steps).sum(1).argmax())]
        when, unit = longest, runs.unit
        convergence = runs.convergence if runs.criterion or _converge(runs) else None
        if not (np.isnan(steps) | (steps == longest)).all():
            when, unit = np.arange(records, dtype=float), "record"
            convergence = None
        return figures.plot_state_raster(
            *(self.paths, when, convergence, runs.names, self.num_states, unit, runs.diverged),
            names=self.names,
            ax=ax,
        )

    def explore(self) -> "Exploration":
        """Returns a page to explore the map on: states, runs and curves that answer to a click.

        A notebook shows it in a frame; `.save("map.html")` writes it as one file.
        """
        from seedmap import exploring

        return exploring.explore(self)

    def to_xarray(self) -> "xr.DataTree":
        """Returns the map as one labelled tree: `runs`, `states`, `edges` and `sizes`."""
        return map_exports.to_xarray(self)

    def to_csv(self, folder: str | os.PathLike[str]) -> None:
        """Writes `runs.csv`, `states.csv` (a row a record) and `edges.csv`."""
        map_exports.to_csv(self, folder)

    def to_tensorboard(self, folder: str | os.PathLike[str]) -> None:
        """Writes the states of every run as a scalar, and the map as a picture."""
        map_exports.to_tensorboard(self, folder)

    def to_wandb(self, run: Any) -> None:
        """Logs the states of every run and the map to what `wandb.init` has returned."""
        map_exports.to_wandb(self, run)


def fit_map(
    runs: Runs,
    *,
    outcome: Sequence[float] | Real[np.ndarray, " run"] | None = None,
    method: str | None = None,
    emission: str | None = None,
    scale: str | None = None,
    **settings: Any,
) -> Map:
    """Fits an HMM to runs, chooses the number of states, decodes every run and builds the map.

    By default a record is a linear motion from the one before, and metrics are on one scale for all
    runs (`seedmap.hmm.make_map`). Gaussian HMMs (`seedmap.fit`) are there beside it.

    Args:
        runs: at least 5.
        outcome: [run], a number measured on each run for the regression on the bag of states, NaN
            where there is none. Default: the time of convergence.
        method: "hu2023": the procedure of Hu et al. 2023 as their released code has it
            (`seedmap.hmm.selection.hu2023`), their definitions of forks and detours included.
        emission: "autoregressive" or "gaussian". Default: "autoregressive", but "gaussian" where a
            setting is given that only Gaussian HMMs have.
        scale: "common" or, with Gaussian HMMs only, "run": what metrics are z-scored by. Default:
            "common", but "run" with Gaussian HMMs (Hu et al. 2023).
        **settings: states, restarts, iterations, validation_runs, seed, callback; resamples, of
            autoregressive HMMs; covariance, prior, criterion, one_standard_error and
            validation_share, of Gaussian ones, see `seedmap.fit`. With a method: states, restarts,
            iterations, covariance, validation_runs, seed and callback.

    Raises:
        UserError: a setting is unknown or out of its range, or the data allow no fit.

    Example:
        >>> import numpy as np
        >>> from seedmap import from_arrays
        >>> levels = np.repeat([[0.0, 0.0], [3.0, 1.0]], 15, axis=0)
        >>> values = levels + np.random.default_rng(0).normal(0, 0.2, (6, 30, 2))
        >>> fit_map(from_arrays(values), states=(1, 2), restarts=2).num_states
        2
    """
    meant = _check_settings(settings, method, emission, scale)
    check_is_runs(runs)
    by_time = outcome is None
    measured = runs.convergence if outcome is None else numbers("outcome", outcome)
    if measured.shape != (len(runs),) or np.isinf(measured).any():
        raise UserError(f"outcome must be {len(runs)} numbers, one per run; NaN where none")
    fitted: MapFit | Fit
    rows = np.arange(len(runs))
    if method:
        fitted = fit_published(runs, **settings)
    elif meant == "autoregressive":
        fitted = fit_on_common_scale(runs, **settings)
        rows = fitted.on_the_map
    else:
        fitted = fit(runs, scale=scale or "run", **settings)
    cap = float(np.nanmax(runs.steps)) if method and by_time and _converge(runs) else None
    analysis = hmm.analyse(
        fitted.parameters,
        fitted.sequences.select(rows),
        fitted.paths[rows],
        measured[rows],
        converged=np.isfinite(runs.convergence)[rows] if by_time else None,
        complete=~runs.diverged[rows],
        cap=cap,
        as_decoded=method is not None,
    )
    branches: tuple[hmm.Branch, ...] = ()
    notes = list(fitted.notes)
    if isinstance(fitted, MapFit):
        branches, headline = branches_of(fitted, settings.get("seed", 0))
        notes.append(headline)
    else:
        headline = analysis.training_map.order
    if by_time and not np.isfinite(measured).any():
        why = "no convergence is recorded"
        if runs.criterion is not None:
            why = f"no run has converged ({runs.criterion})"
        notes.append(f"{why}: nothing is regressed, and detours are not sought")
    else:
        notes += analysis.regression.warnings
        if method:
            notes += visit_notes(analysis.paths, analysis.outcome, fitted.num_states)
    return Map(fitted, analysis, branches, tuple(notes), headline)


def _converge(runs: Runs) -> bool:
    return bool(np.isfinite(runs.convergence).any())


def _settings_of(function: Callable) -> set[str]:
    return set(inspect.signature(function).parameters) - {"runs", "scale", "method"}


def _check_settings(
    settings: Mapping[str, Any], method: str | None, emission: str | None, scale: str | None
) -> str:
    """Returns the emission that is meant, after refusing settings that there are not."""
    check_method(method)
    gaussian, default = _settings_of(fit), _settings_of(fit_on_common_scale)
    for name in settings:
        if name not in gaussian | default:
            known = sorted(gaussian | default)
            hint = did_you_mean(name, known)
            raise UserError(f"unknown setting {name!r}{hint}; known: {', '.join(known)}")
    if method:
        return _check_published(settings, method, emission, scale)
    meant = check_emission(emission, scale, set(settings) & (gaussian - default))
    other = set(settings) & (default - gaussian)
    if meant == "gaussian" and other:
        raise UserError(f"{min(other)} belongs to emission 'autoregressive'; leave it out")
    return meant


def _check_published(
    settings: Mapping[str, Any], method: str, emission: str | None, scale: str | None
) -> str:
    """Returns the emission of the published method, after refusing what it has not."""
    other = sorted(set(settings) - _settings_of(fit_published))
    if emission not in (None, "gaussian"):
        other = ["emission", *other]
    if scale not in (None, "run"):
        other = ["scale", *other]
    if other:
        raise UserError(f"{other[0]} is settled by method {method!r}; leave it out")
    return "gaussian"

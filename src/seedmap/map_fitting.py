"""From runs to a map on the scale that they share: the default of `seedmap.fit_map`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from jaxtyping import Float, Int

from seedmap import hmm
from seedmap.errors import UserError
from seedmap.fitting import check_seed, split_by_name, whole_numbers
from seedmap.hmm.autoregressive.map_model import decode_paths
from seedmap.hmm.training_map.branches import searched_states
from seedmap.runs import Runs, check_is_runs
from seedmap.showing import card

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SMALLEST_LEAK = 0.05  # of R^2 that the scale gives away, above which it is said
_UNEVEN = 1.5  # ratio of the 90 % quantile of the steps between records to the 10 % quantile


@dataclass(frozen=True, eq=False)
class MapFit:
    """The map's model fitted to a set of runs, and what it was chosen among.

    Attributes:
        runs: what it was fitted to.
        made: the model, its paths and all candidates.
        decodings: by number of states, int32 [run, time], the paths of every number of states tried
            and of 4 to 10, where branches are sought; but for the map's own number, of runs without
            their lasting offsets, which are known when a run is over.
        sequences: the metrics [run, time, metric] in standard deviations of the fitted runs.
        parameters: where the states are, in those units (`seedmap.hmm.location_model`); state 0 is
            where runs start.
        leak: how much a run's first record tells of its time of convergence; None with too few
            converged runs.
        notes: what a reader should know of the fit, a sentence each.
    """

    runs: Runs
    made: hmm.MapFit
    decodings: Mapping[int, Int[np.ndarray, "run time"]]
    sequences: hmm.Sequences
    parameters: hmm.Parameters
    leak: hmm.Leak | None
    notes: tuple[str, ...]

    @property
    def num_states(self) -> int:
        """Number of states."""
        return self.made.num_states

    @property
    def paths(self) -> Int[np.ndarray, "run time"]:
        """The state of every record, int32, -1 past a run's end."""
        return self.made.paths

    @property
    def agreement(self) -> Float[np.ndarray, "run time"]:
        """Share of the refits to resampled runs that give each record its state."""
        return self.made.agreement

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """A row for each number of states, with what speaks for and against it."""
        return [hmm.candidate_row(candidate) for candidate in self.made.candidates]

    @property
    def scale(self) -> hmm.Scale:
        """What metrics are scaled by, that of the fitted runs pooled."""
        return self.made.model.scale

    @property
    def on_the_map(self) -> Int[np.ndarray, " run"]:
        """Indices of the runs that are not odd."""
        return np.flatnonzero(~np.isin(self.runs.names, self.made.odd))

    def __repr__(self) -> str:
        tried = [candidate.num_states for candidate in self.made.candidates]
        return (
            f"MapFit({self.num_states} states of {min(tried)}-{max(tried)}, {len(self.runs)} runs, "
            f"{len(self.made.odd)} odd)"
        )

    @overload
    def plot(self, ax: None = None) -> "Figure": ...
    @overload
    def plot(self, ax: "Axes") -> "Axes": ...
    def plot(self, ax: "Axes | None" = None) -> "Figure | Axes":
        """Draws what speaks for and against each number of states.

        Args:
            ax: axes to draw the agreement of halves alone on. Default: a new figure.

        Returns:
            `ax`, or the figure.
        """
        from seedmap.hmm import figures

        return figures.plot_sizes(self.made.candidates, self.num_states, ax)

    def _repr_html_(self) -> str:
        header = ("states", "BIC", "agreement of halves", "by chance", "why chosen or not")
        keys = ("num_states", "bic", "agreement", "chance", "reason")
        rows = [[row[key] for key in keys] for row in self.candidates]
        return card(repr(self), self.plot(), self.notes, header, rows)

    def decode(self, runs: Runs) -> Int[np.ndarray, "run time"]:
        """Returns the states of any runs with the same metrics, int32, -1 past a run's end.

        They may be unfinished: the scale is that of the runs of the fit.

        Raises:
            UserError: the runs have other metrics.
        """
        check_is_runs(runs)
        return decode_paths(self.made.model, hmm.first_records(runs.sequences))


def fit_on_common_scale(
    runs: Runs,
    *,
    states: int | Sequence[int] = range(1, 9),
    restarts: int = 5,
    iterations: int = 60,
    resamples: int = 20,
    validation_runs: Sequence[str] = (),
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
) -> MapFit:
    """Fits the map's model to runs, chooses the number of states and decodes every run.

    Args:
        runs: at least 5.
        states: numbers of states to try, or the one to take.
        restarts: starts of EM for each number of states; the chosen one gets 15 in all.
        iterations: EM iterations of each start at most.
        resamples: refits to resampled runs, which say how sure each state is.
        validation_runs: names of runs to decode only. Default: all runs are fitted.
        seed: of starts, halves and resamples.
        callback: called with (fits done, fits in all at most), first before compilation.

    Raises:
        UserError: an argument is out of its range, or the data allow no fit.
    """
    check_is_runs(runs)
    check_seed(seed)
    settings = hmm.MapSettings(
        states=whole_numbers("states", states),
        restarts=restarts,
        final_restarts=max(restarts, hmm.MapSettings.final_restarts),
        iterations=iterations,
        resamples=resamples,
        seed=int(seed),
    )
    fitted = np.arange(len(runs))
    if len(validation_runs):
        fitted, _ = split_by_name(runs.names, 0.0, validation_runs, seed)
    sequences = hmm.first_records(runs.sequences)
    made = hmm.make_map(sequences, fitted, settings, callback)
    raw = sequences.values[:, 0]
    leak = hmm.leak(made.features.x[:, 0], raw, runs.convergence)
    return MapFit(
        runs=runs,
        made=made,
        decodings=_decodings(made, settings),
        sequences=hmm.scale_metrics(made.model.scale, sequences),
        parameters=hmm.location_model(made.model),
        leak=leak,
        notes=(
            *made.notes,
            *_constant_notes(made.model.scale),
            *leak_notes(leak),
            *_spacing_notes(runs),
        ),
    )


def _decodings(made: hmm.MapFit, settings: hmm.MapSettings) -> dict[int, np.ndarray]:
    """The paths at every number of states that is shown or searched for branches."""
    rows = made.fitted_runs.rows
    sought = searched_states(len(rows), int((made.features.lengths[rows] - 1).sum()))
    return hmm.decode_at_sizes(made, sorted({*settings.states, *sought}), seed=settings.seed)


def branches_of(fit: MapFit, seed: int = 0) -> tuple[tuple[hmm.Branch, ...], str]:
    """Seeks branches among the runs on the map.

    Args:
        fit: the map's model.
        seed: of the tests.

    Returns:
        The branches, named ones first, and what to say of them in a headline.
    """
    made = fit.made
    steps = fit.runs.steps[:, : made.paths.shape[1]]
    branches = hmm.search_branches(
        made.fitted_runs, fit.decodings, steps, fit.runs.convergence, seed
    )
    return branches, hmm.branch_sentence(branches, made.paths[made.fitted_runs.rows])


def _constant_notes(scale: hmm.Scale) -> list[str]:
    """Names the metrics that are constant."""
    names = ", ".join(scale.constant)
    return [f"constant metrics, without a part in the map: {names}"] if names else []


def leak_notes(leak: hmm.Leak | None) -> list[str]:
    """Returns what is to be said where the first record gives the time of convergence away."""
    if not leak or leak.excess <= _SMALLEST_LEAK:
        return []
    return [
        "the first record tells of the time of convergence: leave-one-out R2 "
        f"{leak.scaled:.2f} as the map sees it, {leak.raw:.2f} as recorded"
    ]


def _spacing_notes(runs: Runs) -> list[str]:
    """Says where records are unevenly spaced."""
    between = np.diff(runs.steps, axis=1)
    between = between[np.isfinite(between)]
    if not len(between):
        return []
    low, high = np.quantile(between, (0.1, 0.9))
    if high <= _UNEVEN * low:
        return []
    return [
        f"records are unevenly spaced ({low:g} to {high:g} {runs.unit}s): they are taken in order, "
        "as if they were not"
    ]


def check_emission(emission: str | None, scale: str | None, gaussian_only: set[str]) -> str:
    """Returns the emission that is meant: settings that only Gaussian ones have imply them.

    Args:
        emission: "autoregressive", "gaussian" or None.
        scale: "common", "run" or None.
        gaussian_only: names of the settings given that only Gaussian emissions have.

    Raises:
        UserError: an unknown name, or settings that contradict each other.
    """
    if emission not in (None, "autoregressive", "gaussian"):
        raise UserError(f"emission must be autoregressive or gaussian; got {emission!r}")
    if scale not in (None, "common", "run"):
        raise UserError(f"scale must be common or run; got {scale!r}")
    meant = emission or ("gaussian" if gaussian_only else "autoregressive")
    if meant == "autoregressive" and gaussian_only:
        raise UserError(
            f"{min(gaussian_only)} belongs to emission 'gaussian'; leave it out, or choose that"
        )
    if meant == "autoregressive" and scale == "run":
        raise UserError(
            "scale 'run' belongs to emission 'gaussian', which give too: it tells from the first "
            "record on when a run converges"
        )
    return meant

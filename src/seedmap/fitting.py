"""From runs to an HMM that is chosen among many fits, and every run decoded by it."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import jax
import numpy as np
from jaxtyping import Int

from seedmap import hmm
from seedmap.errors import UserError
from seedmap.hmm.readers.names import listed
from seedmap.runs import Runs, check_is_runs
from seedmap.showing import card

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Fit:
    """The HMM that was chosen for a set of runs, and all fits it was chosen among.

    Attributes:
        runs: what it was fitted to.
        sequences: the metrics [run, time, metric] as the HMM sees them, z-scored.
        sweep: every candidate: numbers of states x restarts.
        chosen: the candidate that was chosen.
        criterion: what it was chosen by, one of `seedmap.hmm.CRITERIA`.
        parameters: of the chosen HMM, states in canonical order (state 0 is where runs start).
        paths: int32 [run, time], the state of every record, -1 past a run's end.
        notes: what a reader should know of the fit, a sentence each.
        scale: of the training runs pooled, which any runs are z-scored by; None: each run is by
            its own mean and spread.
    """

    runs: Runs
    sequences: hmm.Sequences
    sweep: hmm.Sweep
    chosen: hmm.Fit
    criterion: str
    parameters: hmm.Parameters
    paths: Int[np.ndarray, "run time"]
    notes: tuple[str, ...]
    scale: hmm.Scale | None = None

    @property
    def num_states(self) -> int:
        """Number of states of the chosen HMM."""
        return self.chosen.num_states

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """A row for each number of states, with every criterion (`seedmap.hmm.selection_table`)."""
        return hmm.selection_table(self.sweep)

    def __repr__(self) -> str:
        tried = sorted({fit.num_states for fit in self.sweep.fits})
        return (
            f"Fit({self.num_states} states of {tried[0]}-{tried[-1]} by {self.criterion}, "
            f"{len(self.runs)} runs)"
        )

    @overload
    def plot(self, ax: None = None) -> "Figure": ...
    @overload
    def plot(self, ax: "Axes") -> "Axes": ...
    def plot(self, ax: "Axes | None" = None) -> "Figure | Axes":
        """Draws criteria and log-likelihoods over the number of states.

        Args:
            ax: axes to draw the criteria alone on. Default: a new figure.

        Returns:
            `ax`, or the figure.
        """
        from seedmap.hmm import figures

        return figures.plot_model_selection(self.sweep, self.num_states, self.criterion, ax)

    def _repr_html_(self) -> str:
        keys = ("num_states", "num_parameters", "bic", "aic", "validation_log_likelihood")
        header = ("states", "parameters", "BIC", "AIC", "held-out log-likelihood")
        rows = [[row[key] for key in keys] for row in self.candidates]
        return card(repr(self), self.plot(), self.notes, header, rows)

    def decode(self, runs: Runs) -> Int[np.ndarray, "run time"]:
        """Returns the states of any runs with the same metrics, int32, -1 past a run's end.

        Raises:
            UserError: the runs have other metrics.
        """
        check_is_runs(runs)
        if runs.metrics != self.runs.metrics:
            raise UserError(
                f"the HMM was fitted to {', '.join(self.runs.metrics)}; the runs to decode have "
                f"{', '.join(runs.metrics)}"
            )
        return hmm.viterbi(self.parameters, z_scores(runs.sequences, self.scale))


def z_scores(sequences: hmm.Sequences, scale: hmm.Scale | None = None) -> hmm.Sequences:
    """Returns the first 1000 records of raw metrics, z-scored within each run or by a scale."""
    first = hmm.first_records(sequences)
    return hmm.z_score(first) if scale is None else hmm.scale_metrics(scale, first)


def split_by_name(
    names: Sequence[str], validation_share: float, validation_runs: Sequence[str], seed: int
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " held_out"]]:
    """Returns the indices of the training runs and of the held-out ones.

    Args:
        names: of all runs.
        validation_share: share of the runs to hold out, where none are named.
        validation_runs: names of the runs to hold out.
        seed: of the random split.

    Raises:
        UserError: a run to hold out does not exist, or none is left to train on.
    """
    if isinstance(validation_runs, str):
        raise UserError(f"validation_runs must be names of runs; got the text {validation_runs!r}")
    if not validation_runs:
        return hmm.split_runs(len(names), validation_share, seed)
    unknown = [name for name in validation_runs if name not in names]
    if unknown:
        raise UserError(
            f"validation_runs: there is no run {unknown[0]!r}; runs are {listed(names)}"
        )
    held_out = np.isin(names, validation_runs)
    if held_out.all():
        raise UserError("validation_runs names every run; leave some to train on")
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def whole_numbers(name: str, values: int | Sequence[int]) -> tuple[int, ...]:
    """Returns one number or several as a tuple; raises UserError if they are neither."""
    if isinstance(values, int):
        return (values,)
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UserError(f"{name} must be whole numbers, such as (1, 2, 3); got {values!r}")
    return tuple(values)


def check_seed(seed: int) -> None:
    """Raises UserError unless a seed is a whole number from 0 to 2**32 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise UserError(f"seed must be a whole number from 0 to 2**32 - 1; got {seed!r}")


def fit(
    runs: Runs,
    *,
    method: str | None = None,
    states: int | Sequence[int] = range(1, 9),
    restarts: int = 5,
    iterations: int = 32,
    covariance: str = "full",
    prior: str | None = None,
    scale: str | None = None,
    criterion: str | None = None,
    one_standard_error: bool = False,
    validation_share: float | None = None,
    validation_runs: Sequence[str] = (),
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
) -> Fit:
    """Fits Gaussian HMMs of several sizes to runs, chooses one and decodes every run.

    Metrics are z-scored within each run (Hu et al. 2023) or over all; some runs are held out to
    choose the number of states; states come in the order in which runs visit them.

    Args:
        runs: at least 5.
        method: "hu2023": as the code released with Hu et al. 2023 does
            (`seedmap.hmm.selection.hu2023`), which settles prior, scale, criterion,
            one_standard_error and validation_share.
        states: numbers of states to try, or the one to take.
        restarts: starts of EM for each number of states.
        iterations: EM iterations of each start.
        covariance: of the emissions, one of `seedmap.hmm.COVARIANCES`.
        prior: "held-out" or "weak", see `seedmap.hmm.SweepConfig`. Default: "held-out".
        scale: "run" (the default) or "common", what metrics are z-scored by: each run (Hu et al.
            2023), or the training runs pooled.
        criterion: what chooses the number of states, one of `seedmap.hmm.CRITERIA`; by default
            the one that suits the prior.
        one_standard_error: take the fewest states within one standard error of the best.
        validation_share: share of the runs held out, 0.2 by default.
        validation_runs: names of the runs to hold out, in place of a random share.
        seed: of the split and of the starts; with a method, of the starts.
        callback: called with (EM iterations done, in all), first before compilation; with a method,
            fits in place of iterations.

    Raises:
        UserError: an argument is out of its range, or the data allow no fit.
    """
    if method is not None:
        settled = {
            "criterion": criterion,
            "one_standard_error": one_standard_error or None,
            "prior": prior,
            "scale": None if scale == "run" else scale,
            "validation_share": validation_share,
        }
        given = {"restarts": restarts, "iterations": iterations, "covariance": covariance}
        given |= {"validation_runs": validation_runs, "seed": seed, "callback": callback}
        return _by_method(method, settled, runs=runs, states=states, **given)
    scale = "run" if scale is None else scale
    check_is_runs(runs)
    if criterion not in (None, *hmm.CRITERIA):
        raise UserError(f"criterion must be one of {', '.join(hmm.CRITERIA)}; got {criterion!r}")
    check_seed(seed)
    if scale not in ("run", "common"):
        raise UserError(f"scale must be run or common; got {scale!r}")
    config = hmm.SweepConfig(
        states=whole_numbers("states", states),
        restarts=restarts,
        iterations=iterations,
        covariance=covariance,
        prior="held-out" if prior is None else prior,
    )
    share = 0.2 if validation_share is None else validation_share
    split = split_by_name(runs.names, share, validation_runs, seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        common = None
        if scale == "common":
            common = hmm.fit_scale(hmm.first_records(runs.sequences).select(split[0]))
        sequences = z_scores(runs.sequences, common)
        train, held_out = map(sequences.select, split)
        sweep = hmm.fit_sweep(train, held_out, config, jax.random.key(seed), callback)
        chosen = hmm.select(sweep, criterion, one_standard_error)
        hmm.dominant_validation_runs(sweep)
    notes = tuple(str(w.message) for w in caught if issubclass(w.category, UserWarning))
    return _chosen_fit(runs, sequences, sweep, chosen, criterion, notes, common)


def _chosen_fit(runs: Runs, sequences, sweep, chosen: hmm.Fit, criterion, notes, common) -> Fit:
    """The chosen one of a sweep, every run decoded by it."""
    decoded = hmm.decode(chosen.parameters, sequences)
    tried = sweep.config.states
    if chosen.num_states == max(tried) > min(tried):
        notes += (f"the most states tried, {chosen.num_states}, were chosen: try more",)
    return Fit(
        runs=runs,
        sequences=sequences,
        sweep=sweep,
        chosen=chosen,
        criterion=criterion or hmm.default_criterion(sweep),
        parameters=decoded.parameters,
        paths=decoded.paths,
        notes=notes,
        scale=common,
    )


def _by_method(method: str, settled: Mapping[str, Any], **arguments: Any) -> Fit:
    """Returns a fit by a published method, after refusing settings that it settles itself."""
    from seedmap import published  # here, for it builds on this module

    published.check_method(method)
    given = [name for name, value in settled.items() if value is not None]
    if given:
        raise UserError(f"{given[0]} is settled by method {method!r}; leave it out")
    return published.fit_published(**arguments)

"""A fitted map as a model: decode any runs, filter them, score them, say where its states are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from seedmap.hmm import parameters as gaussian
from seedmap.hmm.autoregressive.fits import (
    Scored,
    log_densities,
    precision,
    score_models,
)
from seedmap.hmm.autoregressive.model import Parameters
from seedmap.hmm.autoregressive.records import records_of
from seedmap.hmm.autoregressive.refits import agreement_of
from seedmap.hmm.features import Features, Scale, apply_scale
from seedmap.hmm.inference import filter_states
from seedmap.hmm.sequences import Sequences


@dataclass(frozen=True, eq=False)
class MapModel:
    """Everything that decoding takes; states in the order in which runs visit them.

    Attributes:
        scale: from metrics to components.
        tempering: tau.
        parameters: of the fit to all runs.
        refits: of the fits to resamples, their states labelled as those of `parameters`, which
            decodes; by them it is said how sure each record's state is.
    """

    scale: Scale
    tempering: float
    parameters: Parameters
    refits: tuple[Parameters, ...]

    @property
    def num_states(self) -> int:
        """Number of states K."""
        return len(self.parameters.initial)


@dataclass(frozen=True, eq=False)
class FittedRuns:
    """A map's model and the runs it was fitted to, as they are known of a map read from files.

    Attributes:
        model: of the map.
        features: all runs as the model sees them.
        fitted: names of the runs that the model was fitted to.
    """

    model: MapModel
    features: Features
    fitted: tuple[str, ...]

    @property
    def rows(self) -> Int[np.ndarray, " index"]:
        """Indices of the fitted runs."""
        return np.flatnonzero(np.isin(self.features.runs, self.fitted))


def decode_runs(
    model: MapModel, sequences: Sequences
) -> tuple[Int[np.ndarray, "run time"], Float[np.ndarray, "run time"]]:
    """Returns the state of every record of any runs, and the share of the refits that say so.

    The state is that of the likeliest path by the fit to all runs. What most refits say is further
    from planted states and moves more with the runs at hand: to a resample, an unusual run is often
    a new one (`benchmarks/RESULTS.md`).

    Args:
        model: the map.
        sequences: metrics as recorded, the same ones as in the fit; runs may be unfinished.

    Returns:
        int32 [run, time], -1 on padding, and float64 [run, time], 0 on padding; NaN without refits.

    Raises:
        UserError: the runs have other metrics.
    """
    paths, *others = paths_by_refits(model, sequences)
    return paths, agreement_of(paths, others)


def decode_paths(model: MapModel, sequences: Sequences) -> Int[np.ndarray, "run time"]:
    """Returns the state of every record alone, without asking the refits: int32, -1 on padding.

    Arguments as those of `decode_runs`.
    """
    return paths_by_refits(replace(model, refits=()), sequences)[0]


def paths_by_refits(model: MapModel, sequences: Sequences) -> list[Int[np.ndarray, "run time"]]:
    """Returns the decoding by the fit to all runs, then that of each refit, with the same labels.

    Arguments as those of `decode_runs`.
    """
    scored = _score(model, sequences, (model.parameters, *model.refits))
    return [each.paths.astype(np.int32) for each in scored]


def score_runs(model: MapModel, sequences: Sequences) -> Float[np.ndarray, " run"]:
    """Returns the log-likelihood of every run from its second record on, divided by tau, in nats.

    It is a composite one: every record counts 1.2 times.
    """
    (scored,) = _score(model, sequences, (model.parameters,))
    return scored.run_log_likelihood / model.tempering


def filter_runs(model: MapModel, sequences: Sequences) -> Float[np.ndarray, "run time state"]:
    """Returns the probabilities of the states given the records so far, 0 on padding.

    No later record has a part in them. At the first record they are those of its place.
    """
    features = apply_scale(model.scale, sequences)
    with precision():
        records, parameters = records_of(features), model.parameters
        logs = log_densities(records, features.mask, parameters, model.tempering)
        later = filter_states(parameters.initial, parameters.transition, logs[:, 1:])
    first = np.exp(logs[:, :1] - logs[:, :1].max(2, keepdims=True))
    probabilities = np.concatenate([first / first.sum(2, keepdims=True), later], 1)
    return np.where(features.mask[:, :, None], probabilities, 0.0)


def location_model(model: MapModel) -> gaussian.Parameters:
    """Returns where the states are as a Gaussian HMM over the scaled metrics.

    The means and covariances of the location, taken from components back to metrics, with what the
    components leave of the variance added: what describes states and edges in terms of metrics.
    """
    back = np.linalg.pinv(model.scale.loadings)  # [component, metric]
    means = model.parameters.location @ back
    left = gaussian.with_least_variance(model.scale.covariance - back.T @ back)
    covariances = back.T @ model.parameters.spread @ back + left
    return gaussian.Parameters(
        model.parameters.initial, model.parameters.transition, means, covariances
    )


def _score(model: MapModel, sequences: Sequences, voters: Sequence[Parameters]) -> list[Scored]:
    features: Features = apply_scale(model.scale, sequences)
    with precision():
        records = records_of(features)
        temperings = [model.tempering] * len(voters)
        return score_models(records, features.mask, list(voters), temperings)

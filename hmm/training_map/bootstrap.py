"""How far the map depends on which runs were trained: the chosen HMM refitted to resampled runs.

`hmm.training_map.stability.edge_inclusion` resamples runs with the HMM held; here EM learns again
from each resample. A resample draws as many runs as there are, with replacement (Efron 1979), which
is a count for every run; `hmm.em.loop.run` takes such counts, so all refits are one compiled
program.

Every refit starts from the chosen model. The question is how far other runs move this solution:
fresh starts would add that EM ends in other optima, which the sweep's restarts show apart, and a
fair number of them for every resample would cost as much as the sweep. The scatter measured here is
therefore a lower bound on that of doing the whole analysis again with other runs. A fit whose
iterations ran out before it converged moves on a little under any weights (sparse parities, K = 4:
its own runs once each, an adjusted Rand index of 0.985; resamples, 0.49 to 0.94).
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Real

from seedmap.errors import UserError
from seedmap.hmm.em.loop import run
from seedmap.hmm.em.model import Layout, Model, Prior
from seedmap.hmm.em.standardise import Scaling, as_data, scaling_of
from seedmap.hmm.inference import viterbi
from seedmap.hmm.parameters import Parameters
from seedmap.hmm.selection.config import PSEUDO_COUNT, SweepConfig
from seedmap.hmm.selection.fits import Fit, Sweep
from seedmap.hmm.sequences import Sequences
from seedmap.hmm.training_map.stability import adjusted_rand_index, edge_recurrence


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """What the refits to resampled runs say of a map.

    Attributes:
        num_resamples: Resamples drawn.
        num_degenerate: Those whose refit broke down (see `hmm.Fit.degenerate`), mostly because a
            state lost its runs. They have no part in what follows.
        adjusted_rand: float64 [refit], agreement of each refit's decoding of all runs with the
            map's, see `hmm.adjusted_rand_index`.
        edges: float64 [source, target], share of the refits in whose decoding some run makes the
            transition, states matched to the map's; None where every refit broke down.
    """

    num_resamples: int
    num_degenerate: int
    adjusted_rand: Float[np.ndarray, " refit"]
    edges: Float[np.ndarray, "source target"] | None


def bootstrap_map(
    sweep: Sweep,
    chosen: Fit,
    sequences: Sequences,
    paths: Int[np.ndarray, "_run _time"],
    num_resamples: int = 20,
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
) -> Bootstrap:
    """Refits the chosen HMM to resamples of its training runs, and decodes all runs with each.

    Args:
        sweep: The sweep, whose settings and training runs count.
        chosen: One of its fits, with parameters.
        sequences: All runs to decode, the training runs among them.
        paths: int [run, time], the map's decoding of them, in any labels.
        num_resamples: Resamples to draw.
        seed: Of the draws; resample b is the same one however many there are.
        callback: Called with (EM iterations done, in all) of the refits, which run together.

    Returns:
        Agreement of the decodings, and how often each edge comes back.

    Raises:
        UserError: `num_resamples` is below 1, a training run is not among the sequences, or
            `paths` are of other runs.
    """
    missing = [name for name in sweep.train_runs if name not in sequences.runs]
    if missing:
        raise UserError(f"the sweep's training run {missing[0]!r} is not among the sequences")
    train = sequences.select([sequences.runs.index(name) for name in sweep.train_runs])
    counts = resample_counts(train.num_runs, num_resamples, seed)
    fitted = refit(train, chosen.parameters, chosen.prior_scale, sweep.config, counts, callback)
    refits = [parameters for parameters in fitted if parameters is not None]
    decodings = [viterbi(parameters, sequences) for parameters in refits]
    return Bootstrap(
        num_resamples,
        num_resamples - len(refits),
        np.array([adjusted_rand_index(paths, decoding) for decoding in decodings]),
        edge_recurrence(paths, decodings, chosen.num_states) if decodings else None,
    )


def resample_counts(
    num_runs: int, num_resamples: int, seed: int = 0
) -> Int[np.ndarray, "resample run"]:
    """Returns how often each resample draws each run, int64 [resample, run].

    Rows sum to `num_runs`.

    Raises:
        UserError: `num_resamples` is below 1.
    """
    if num_resamples < 1:
        raise UserError(f"num_resamples must be at least 1; got {num_resamples}")
    drawn = np.random.default_rng(seed).integers(num_runs, size=(num_resamples, num_runs))
    return np.stack([np.bincount(row, minlength=num_runs) for row in drawn])


def refit(
    train: Sequences,
    parameters: Parameters,
    prior_scale: float,
    config: SweepConfig,
    run_weights: Real[np.ndarray, "refit run"],
    callback: Callable[[int, int], None] | None = None,
) -> list[Parameters | None]:
    """Runs EM from a fitted model's parameters, once for each weighting of its training runs.

    Metrics are standardised by the unweighted training runs, as in the fit, so that the prior stays
    the same.

    Args:
        train: The runs that the model was fitted to, in the same units.
        parameters: The model.
        prior_scale: `hmm.Fit.prior_scale` of the fit.
        config: The settings of its sweep; covariance type, iterations and tolerance count.
        run_weights: float [refit, run], how much each run counts; 1 for all repeats the fit.
        callback: Called with (EM iterations done, in all).

    Returns:
        The parameters of each refit, float64; None where it broke down.
    """
    scaling, num_refits = scaling_of(train, config.covariance), len(run_weights)
    layout = Layout((len(parameters.means),) * num_refits, config.covariance)
    prior = Prior(jnp.full(num_refits, prior_scale, float), jnp.asarray(PSEUDO_COUNT, float))
    progress = run(
        layout,
        as_data([train], scaling),
        jnp.asarray(run_weights, float),
        prior,
        config.tolerance,
        _standardised(parameters, scaling, num_refits),
        config.iterations,
        lambda done: callback(done, config.iterations) if callback else None,
    )
    model, degenerate = jax.device_get((progress.model, progress.degenerate))
    return [
        None if broken else parameters
        for parameters, broken in zip(_split(model, scaling), degenerate, strict=True)
    ]


def _standardised(parameters: Parameters, scaling: Scaling, copies: int) -> Model:
    """Copies of a model, in the units that EM works in: the reverse of `Scaling.undo`."""
    covariances = parameters.covariances / np.outer(scaling.std, scaling.std)
    return Model(
        jnp.asarray(np.tile(parameters.initial, (copies, 1)), float),
        jnp.asarray(np.tile(parameters.transition, (copies, 1, 1)), float),
        jnp.asarray(np.tile(scaling.apply(parameters.means), (copies, 1)), float),
        jnp.asarray(np.tile(np.linalg.cholesky(covariances), (copies, 1, 1)), float),
    )


def _split(model: Model, scaling: Scaling) -> list[Parameters]:
    """The parameters of every refit, in the units of the data."""
    initial, transition, means, factors = (np.asarray(array, np.float64) for array in model)
    num_refits, num_states = initial.shape
    shape = (num_refits, num_states, -1)
    covariances = (factors @ factors.transpose(0, 2, 1)).reshape(*shape, means.shape[1])
    return [
        scaling.undo(Parameters(*arrays))
        for arrays in zip(
            initial / initial.sum(1, keepdims=True),
            transition / transition.sum(2, keepdims=True),
            means.reshape(shape),
            covariances,
            strict=True,
        )
    ]

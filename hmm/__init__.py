"""Gaussian HMMs of training runs: fit, select, decode.

From arrays to a decoded model:

    sequences = z_score(from_arrays(values))               # values [run, time, metric]
    train, validation = split_runs(sequences.num_runs)     # indices of runs
    sweep = fit_sweep(
        sequences.select(train), sequences.select(validation), SweepConfig(), jax.random.key(0)
    )
    fit = select(sweep)
    paths = viterbi(fit.parameters, sequences)             # int32 [run, time], -1 on padding
    order = canonical_order(paths, fit.num_states)         # state 0 is where runs start
    parameters, paths = permute(fit.parameters, order), relabel(paths, order)

Signatures (arrays are numpy, float64 unless said otherwise):

    from_arrays(values, lengths=None, metrics=None, runs=None) -> Sequences
    z_score(sequences, first=1000, per="run") -> Sequences
    split_runs(num_runs, validation_share=0.2, seed=0) -> (train, validation)
    fit_sweep(train, validation, config, key, callback=None) -> Sweep
    select(sweep, criterion=None, one_standard_error=False) -> Fit
    selection_table(sweep) -> list[dict]
    best_restarts(sweep) -> dict[num_states, Fit]
    dominant_validation_runs(sweep, share=0.8) -> tuple of run names (and a UserWarning)
    num_parameters(num_states, num_metrics, covariance) -> int
    log_densities(parameters, values) -> [..., state]
    viterbi(parameters, sequences) -> int32 [run, time], -1 on padding
    posterior(parameters, sequences), filtered(parameters, sequences) -> [run, time, state]
    log_likelihood(parameters, sequences) -> [run]
    canonical_order(paths, num_states) -> [state]
    permute(parameters, order) -> Parameters
    relabel(paths, order) -> paths
"""

from hmm.cross_validation import CrossValidation
from hmm.inference import filtered, log_likelihood, posterior, viterbi
from hmm.parameters import (
    Parameters,
    canonical_order,
    log_densities,
    num_parameters,
    permute,
    relabel,
)
from hmm.selection import (
    CRITERIA,
    best_restarts,
    default_criterion,
    dominant_validation_runs,
    select,
    selection_table,
)
from hmm.sequences import Sequences, from_arrays, split_runs, z_score
from hmm.sweep import Fit, Sweep, SweepConfig, fit_sweep

__all__ = [
    "CRITERIA",
    "CrossValidation",
    "Fit",
    "Parameters",
    "Sequences",
    "Sweep",
    "SweepConfig",
    "best_restarts",
    "canonical_order",
    "default_criterion",
    "dominant_validation_runs",
    "filtered",
    "fit_sweep",
    "from_arrays",
    "log_densities",
    "log_likelihood",
    "num_parameters",
    "permute",
    "posterior",
    "relabel",
    "select",
    "selection_table",
    "split_runs",
    "viterbi",
    "z_score",
]

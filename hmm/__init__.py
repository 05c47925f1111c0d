"""HMMs of training runs: fit, select, decode.

The default engine, on a scale that all runs share:

    made = make_map(from_arrays(values), fitted, MapSettings())    # fitted: indices of runs
    made.paths, made.agreement, made.candidates, made.notes
    decode_runs(made.model, others)                                # any runs, unfinished ones too

    fit_scale(sequences) -> Scale; apply_scale(scale, sequences) -> Features
    scale_metrics(scale, sequences) -> Sequences
    leak(first, raw, times) -> Leak: what first records tell of the time of convergence
    make_map(sequences, fitted, settings, callback=None) -> MapFit
    candidate_row(candidate) -> dict
    decode_runs(model, sequences) -> (int32 [run, time], share of the refits that say so)
    filter_runs(model, sequences) -> [run, time, state]; score_runs(model, sequences) -> [run]
    location_model(model) -> Parameters: where the states are, as a Gaussian HMM
    decode_at_sizes(made, states) -> {K: paths}, where branches are sought
    search_branches(made.fitted_runs, decodings, steps, convergence) -> tuple of Branch

Gaussian HMMs, from arrays to a decoded model:

    sequences = z_score(from_arrays(values))               # values [run, time, metric]
    train, validation = split_runs(sequences.num_runs)     # indices of runs
    sweep = fit_sweep(
        sequences.select(train), sequences.select(validation), SweepConfig(), jax.random.key(0)
    )
    fit = select(sweep)
    decoded = decode(fit.parameters, sequences)            # state 0 is where runs start
    decoded.parameters, decoded.paths                      # int32 [run, time], -1 on padding

Signatures (arrays are numpy, float64 unless said otherwise):

    from_arrays(values, lengths=None, metrics=None, runs=None) -> Sequences
    z_score(sequences, first=1000, per="run") -> Sequences
    split_runs(num_runs, validation_share=0.2, seed=0) -> (train, validation)
    fit_sweep(train, validation, config, key, callback=None) -> Sweep
    select(sweep, criterion=None, one_standard_error=False) -> Fit
    selection_table(sweep) -> list[dict]
    hu2023_split(num_runs), fit_hu2023(train, validation, config), select_hu2023(sweep)
    best_restarts(sweep) -> dict[num_states, Fit]
    dominant_validation_runs(sweep, share=0.8) -> tuple of run names (and a UserWarning)
    num_parameters(num_states, num_metrics, covariance) -> int
    log_densities(parameters, values) -> [..., state]
    decode(parameters, sequences) -> Decoded, states in order of first visit
    fit_and_decode(sequences, train, held_out, config, seed=0) -> Decoded: all of the above
    viterbi(parameters, sequences) -> int32 [run, time], -1 on padding
    posterior(parameters, sequences), filtered(parameters, sequences) -> [run, time, state]
    log_likelihood(parameters, sequences) -> [run]
    canonical_order(paths, num_states) -> [state]
    permute(parameters, order) -> Parameters
    relabel(paths, order) -> paths

From there to what the states mean, and back to files:

    read_metrics(path, metrics=None, columns=None), from_pandas(...), from_xarray(...) -> RunTable
    build_map(parameters, sequences, paths) -> TrainingMap
    analyse(parameters, sequences, paths, outcome, ...) -> Analysis: the map and what follows
    bag_of_states(paths, num_states) -> [run, state]; regress(bag, outcome) -> Regression
    detours(paths, converged, regression) -> list of states
    dissimilarity(bag, ground, means=None) -> float
    bootstrap_map(sweep, chosen, sequences, paths, num_resamples=20, seed=0) -> Bootstrap
    compare_baselines(sequences, outcome, steps, config) -> list[dict]
    find_branches(features, decodings, refits, names, steps, convergence) -> tuple of Branch
    map_to_draw(training_map, branches, sequences, decodings) -> DrawnMap, with the branches
    branch_sentence(branches, paths) -> str; branch_power(num_runs, records_per_phase) -> float
    kaplan_meier(times, observed) -> SurvivalCurve; hazard_by_state(beliefs, steps, convergence)
    survival_by_group(times, observed, group) -> GroupSurvival
    path_or_speed(features) -> PathOrSpeed; moves_first(values, steps, event, metrics) -> MovesFirst
    best_threshold(values, outcome, metrics) -> SingleThreshold, beside the bag of states
    pool({name: sequences}) -> Sequences
    read_runs(saved, raw) -> Reading; read_beliefs(saved, raw): any runs by a saved HMM
    predict_outcome(bag, outcome, new_bag) -> [new run]; prediction_r2(predicted, outcome)
    fit_forecaster(sequences, outcome, steps) -> Forecaster
    forecast(forecaster, values, level=0.8) -> Forecast
    left_out_folds(sequences, outcome, steps) -> ScoredSet each; forecast_skill(sets, upto) -> rows
    save_hmm(folder, saved), load_hmm(folder) -> SavedHMM; also hmmlearn's and Dynamax's models

`hmm.figures` draws.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from seedmap.hmm.autoregressive.choice import SizeCandidate, candidate_row
from seedmap.hmm.autoregressive.engine import MapFit, MapSettings, make_map
from seedmap.hmm.autoregressive.map_model import (
    FittedRuns,
    MapModel,
    decode_runs,
    filter_runs,
    location_model,
    score_runs,
)
from seedmap.hmm.autoregressive.sizes import decode_at_sizes, search_branches
from seedmap.hmm.decoding import Decoded, decode, fit_and_decode
from seedmap.hmm.features import (
    Features,
    Leak,
    Scale,
    apply_scale,
    fit_scale,
    leak,
    scale_metrics,
)
from seedmap.hmm.forecasting.causal import causal_z_score
from seedmap.hmm.forecasting.fitting import ForecastSettings, fit_forecaster
from seedmap.hmm.forecasting.forecaster import Forecast, Forecaster, forecast
from seedmap.hmm.forecasting.skill import ScoredSet, SkillRow, forecast_skill, left_out_folds
from seedmap.hmm.inference import filtered, log_likelihood, posterior, viterbi
from seedmap.hmm.io import (
    SavedHMM,
    from_dynamax,
    from_hmmlearn,
    load_hmm,
    save_hmm,
    to_dynamax,
    to_hmmlearn,
)
from seedmap.hmm.parameters import (
    COVARIANCES,
    Parameters,
    canonical_order,
    log_densities,
    num_parameters,
    permute,
    relabel,
)
from seedmap.hmm.reading import Reading, in_units_of, read_beliefs, read_runs
from seedmap.hmm.selection.config import PRIORS, SweepConfig
from seedmap.hmm.selection.criteria import (
    CRITERIA,
    best_restarts,
    criterion_value,
    default_criterion,
    dominant_validation_runs,
    select,
    selection_table,
)
from seedmap.hmm.selection.cross_validation import CrossValidation
from seedmap.hmm.selection.fits import Fit, Sweep
from seedmap.hmm.selection.hu2023 import (
    VisitCorrelation,
    fit_hu2023,
    hu2023_split,
    select_hu2023,
    visit_correlations,
)
from seedmap.hmm.selection.sweep import fit_sweep
from seedmap.hmm.sequences import Sequences, first_records, from_arrays, split_runs, z_score
from seedmap.hmm.sweep_io import load_sweep, save_sweep
from seedmap.hmm.training_map.analyse import Analysis, analyse
from seedmap.hmm.training_map.baselines import (
    Clustering,
    compare_baselines,
    early_bag_regression,
    explained_by,
    kmeans,
    only_metrics,
    rank_metrics,
)
from seedmap.hmm.training_map.bootstrap import Bootstrap, bootstrap_map, refit, resample_counts
from seedmap.hmm.training_map.branches import Branch, find_branches, states_with_branches
from seedmap.hmm.training_map.build import Edge, TrainingMap, belief_gradient, build_map, importance
from seedmap.hmm.training_map.delay import Delay
from seedmap.hmm.training_map.dissimilarity import dissimilarity, pairwise_dissimilarity
from seedmap.hmm.training_map.drawn import DrawnMap, map_to_draw
from seedmap.hmm.training_map.findings import first_sentences, speed_sentences, survival_sentences
from seedmap.hmm.training_map.moves_first import MovesFirst, Turn, moves_first
from seedmap.hmm.training_map.outcome import convergence_time
from seedmap.hmm.training_map.path_or_speed import PathOrSpeed, path_or_speed
from seedmap.hmm.training_map.power import branch_power, branch_sentence, records_per_phase
from seedmap.hmm.training_map.prediction import predict_outcome, prediction_r2
from seedmap.hmm.training_map.regression import (
    READABLE_PVALUE,
    Coefficient,
    Regression,
    bag_of_states,
    detours,
    permutation_pvalue,
    regress,
)
from seedmap.hmm.training_map.single_threshold import SingleThreshold, best_threshold
from seedmap.hmm.training_map.stability import (
    adjusted_rand_index,
    decoding_agreement,
    edge_inclusion,
    edge_recurrence,
    match_states,
)
from seedmap.hmm.training_map.survival import (
    GroupSurvival,
    Interval,
    StateHazard,
    SurvivalCurve,
    censored_times,
    hazard_by_state,
    kaplan_meier,
    log_rank,
    log_rank_pvalue,
    restricted_difference,
    restricted_mean,
    survival_by_group,
)
from seedmap.hmm.training_map.transfer import (
    check_same_metrics,
    pool,
)

if TYPE_CHECKING:
    from seedmap.hmm.readers.memory import from_pandas, from_xarray
    from seedmap.hmm.readers.read import read_metrics
    from seedmap.hmm.readers.run_table import RunTable

_READERS = {  # imported when they are used: they need pandas
    "RunTable": "run_table",
    "from_pandas": "memory",
    "from_xarray": "memory",
    "read_metrics": "read",
}

__all__ = [
    "COVARIANCES",
    "CRITERIA",
    "PRIORS",
    "READABLE_PVALUE",
    "Analysis",
    "Bootstrap",
    "Branch",
    "Clustering",
    "Coefficient",
    "CrossValidation",
    "Decoded",
    "Delay",
    "DrawnMap",
    "Edge",
    "Features",
    "Fit",
    "FittedRuns",
    "Forecast",
    "ForecastSettings",
    "Forecaster",
    "GroupSurvival",
    "Interval",
    "Leak",
    "MapFit",
    "MapModel",
    "MapSettings",
    "MovesFirst",
    "Parameters",
    "PathOrSpeed",
    "Reading",
    "Regression",
    "RunTable",
    "SavedHMM",
    "Scale",
    "ScoredSet",
    "Sequences",
    "SingleThreshold",
    "SizeCandidate",
    "SkillRow",
    "StateHazard",
    "SurvivalCurve",
    "Sweep",
    "SweepConfig",
    "TrainingMap",
    "Turn",
    "VisitCorrelation",
    "adjusted_rand_index",
    "analyse",
    "apply_scale",
    "bag_of_states",
    "belief_gradient",
    "best_restarts",
    "best_threshold",
    "bootstrap_map",
    "branch_power",
    "branch_sentence",
    "build_map",
    "candidate_row",
    "canonical_order",
    "causal_z_score",
    "censored_times",
    "check_same_metrics",
    "compare_baselines",
    "convergence_time",
    "criterion_value",
    "decode",
    "decode_at_sizes",
    "decode_runs",
    "decoding_agreement",
    "default_criterion",
    "detours",
    "dissimilarity",
    "dominant_validation_runs",
    "early_bag_regression",
    "edge_inclusion",
    "edge_recurrence",
    "explained_by",
    "filter_runs",
    "filtered",
    "find_branches",
    "first_records",
    "first_sentences",
    "fit_and_decode",
    "fit_forecaster",
    "fit_hu2023",
    "fit_scale",
    "fit_sweep",
    "forecast",
    "forecast_skill",
    "from_arrays",
    "from_dynamax",
    "from_hmmlearn",
    "from_pandas",
    "from_xarray",
    "hazard_by_state",
    "hu2023_split",
    "importance",
    "in_units_of",
    "kaplan_meier",
    "kmeans",
    "leak",
    "left_out_folds",
    "load_hmm",
    "load_sweep",
    "location_model",
    "log_densities",
    "log_likelihood",
    "log_rank",
    "log_rank_pvalue",
    "make_map",
    "map_to_draw",
    "match_states",
    "moves_first",
    "num_parameters",
    "only_metrics",
    "pairwise_dissimilarity",
    "path_or_speed",
    "permutation_pvalue",
    "permute",
    "pool",
    "posterior",
    "predict_outcome",
    "prediction_r2",
    "rank_metrics",
    "read_beliefs",
    "read_metrics",
    "read_runs",
    "records_per_phase",
    "refit",
    "regress",
    "relabel",
    "resample_counts",
    "restricted_difference",
    "restricted_mean",
    "save_hmm",
    "save_sweep",
    "scale_metrics",
    "score_runs",
    "search_branches",
    "select",
    "select_hu2023",
    "selection_table",
    "speed_sentences",
    "split_runs",
    "states_with_branches",
    "survival_by_group",
    "survival_sentences",
    "to_dynamax",
    "to_hmmlearn",
    "visit_correlations",
    "viterbi",
    "z_score",
]


def __getattr__(name: str) -> Any:
    """Imports a reader when it is first used."""
    if name not in _READERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"seedmap.hmm.readers.{_READERS[name]}"), name)

"""How much replicas of one training differ, by what, and how surely: measures and intervals."""

from experiments.noise.barrier import error_barrier, line_errors
from experiments.noise.bootstrap import (
    Interval,
    mean_interval,
    pair_interval,
    ratio_of_pairs,
    ratio_of_sd,
    ratio_of_variance,
    sd_error,
    sd_interval,
)
from experiments.noise.divergence import Growth, GrowthCurve, first_apart, growth, growth_curve
from experiments.noise.groups import (
    ClassAccuracy,
    GroupRates,
    class_accuracy,
    group_rates,
    relative_spread,
)
from experiments.noise.measures import (
    WeightDistances,
    accuracy,
    churn,
    correctness,
    ensemble_gain,
    logit_correlation,
    standard_deviation,
    weight_distances,
)
from experiments.noise.superiority import probability_better
from experiments.noise.variance import distribution_variance, independent_error_variance

__all__ = [
    "ClassAccuracy",
    "GroupRates",
    "Growth",
    "GrowthCurve",
    "Interval",
    "WeightDistances",
    "accuracy",
    "churn",
    "class_accuracy",
    "correctness",
    "distribution_variance",
    "ensemble_gain",
    "error_barrier",
    "first_apart",
    "group_rates",
    "growth",
    "growth_curve",
    "independent_error_variance",
    "line_errors",
    "logit_correlation",
    "mean_interval",
    "pair_interval",
    "probability_better",
    "ratio_of_pairs",
    "ratio_of_sd",
    "ratio_of_variance",
    "relative_spread",
    "sd_error",
    "sd_interval",
    "standard_deviation",
    "weight_distances",
]

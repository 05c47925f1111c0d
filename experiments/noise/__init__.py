"""Differences between replicas of one training, their sources and intervals (Zhuang et al. 2022).

study = run_study(task, optimizer, batch_size=50, steps=400, record_every=20, noise=NoiseConfig())
summarise_study(study).variants              # every measure, with intervals, source by source

The measures are functions of arrays of replicas and can be had without any of that.
"""

from seedmap.experiments.noise.measures.barrier import error_barrier, line_errors
from seedmap.experiments.noise.measures.divergence import (
    Growth,
    GrowthCurve,
    first_apart,
    growth,
    growth_curve,
)
from seedmap.experiments.noise.measures.groups import (
    ClassAccuracy,
    GroupRates,
    class_accuracy,
    group_rates,
    relative_spread,
)
from seedmap.experiments.noise.measures.intervals import (
    Interval,
    mean_interval,
    pair_interval,
    ratio_of_pairs,
    ratio_of_sd,
    ratio_of_variance,
    ratio_within,
    sd_error,
    sd_interval,
)
from seedmap.experiments.noise.measures.replicas import (
    WeightDistances,
    accuracy,
    churn,
    correctness,
    ensemble_gain,
    logit_correlation,
    standard_deviation,
    weight_distances,
)
from seedmap.experiments.noise.measures.superiority import probability_better
from seedmap.experiments.noise.measures.variance import (
    distribution_variance,
    independent_error_variance,
)
from seedmap.experiments.noise.study import NoiseConfig, StudyResult, run_study
from seedmap.experiments.noise.summary import summarise_study

__all__ = [
    "ClassAccuracy",
    "GroupRates",
    "Growth",
    "GrowthCurve",
    "Interval",
    "NoiseConfig",
    "StudyResult",
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
    "ratio_within",
    "relative_spread",
    "run_study",
    "sd_error",
    "sd_interval",
    "standard_deviation",
    "summarise_study",
    "weight_distances",
]

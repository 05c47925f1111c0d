"""From a trained study of noise to its measures: `StudySummary`, the content of `noise.json`."""

from collections.abc import Mapping
from dataclasses import replace

import jax
import numpy as np

from seedmap.experiments.noise.components import commitment_of, components_of, most_sources
from seedmap.experiments.noise.convergence import convergence_of, groups_of, survival_of
from seedmap.experiments.noise.estimates import estimate
from seedmap.experiments.noise.measures.barrier import error_barrier
from seedmap.experiments.noise.measures.divergence import growth
from seedmap.experiments.noise.measures.groups import class_accuracy, group_rates
from seedmap.experiments.noise.measures.intervals import (
    mean_interval,
    pair_interval,
    ratio_of_pairs,
    ratio_of_variance,
    ratio_within,
    sd_error,
    sd_interval,
)
from seedmap.experiments.noise.measures.replicas import (
    accuracy,
    churn,
    ensemble_gain,
    logit_correlation,
    standard_deviation,
    weight_distances,
)
from seedmap.experiments.noise.measures.variance import (
    distribution_variance,
    independent_error_variance,
)
from seedmap.experiments.noise.pooled import median, pooled
from seedmap.experiments.noise.predictions import Predictions
from seedmap.experiments.noise.results import (
    Barrier,
    ClassRatio,
    ClassSpread,
    Control,
    Estimate,
    GroupSpread,
    GrowthSummary,
    Parting,
    RateSpread,
    Spread,
    StudySummary,
    VariantSummary,
    without_ends,
)
from seedmap.experiments.noise.share_curves import shares_of
from seedmap.experiments.noise.study import StudyResult, study_of_root
from seedmap.experiments.noise.variants import (
    CONTROL,
    SOURCES,
    Variant,
    is_sampled,
    rows_by_root,
    rows_of,
)


def summarise_study(study: StudyResult, threshold: float | None = None) -> StudySummary:
    """Takes all measures of a study, variant by variant, with 95 % intervals.

    With one root intervals are over its replicas, and say nothing of other trainings; with several
    they are over roots (`noise.pooled`), and each source has its variance components.

    Replicas that diverged have no part in the measures. Shares are of the variant with the most
    sources, "whole"; sources are not additive, and shares need not sum to 1. Their intervals take
    the two variants for independent samples, though replica r has the same number in both: where
    they have a source in common, the intervals are wider than they need be. Precision alone has no
    intervals: its modes are all there are.

    Args:
        study: trained.
        threshold: evaluation accuracy above which a replica has converged; None: not asked for.

    Returns:
        What `noise.json` holds, without the name of an experiment, a training map and paths.
    """
    summary = pooled([_of_root(study_of_root(study, i)) for i in range(study.roots)])
    convergence = convergence_of(study.dataset, threshold)
    rows = rows_by_root(study.variants, study.roots)
    survivals = {
        name: survival_of(convergence, own, None if name == summary.whole else rows[summary.whole])
        for name, own in rows.items()
        if convergence is not None and name != CONTROL  # whose replicas are copies of one
    }
    return replace(
        summary,
        variants=[replace(v, survival=survivals.get(v.name)) for v in summary.variants],
        components=components_of(study, convergence),
        commitment=commitment_of(study, convergence),
        shares=shares_of(study),
        groups=groups_of(study.variants, study.roots, convergence),
    )


def _of_root(study: StudyResult) -> StudySummary:
    """Takes all measures of one root, with intervals over its replicas."""
    variants, rows = study.variants, rows_of(study.variants)
    samples = {v.name: _Sample(study, rows[v.name]) for v in variants}
    most = most_sources(variants).name
    steps, logits = study.dataset.step.values, study.predictions.logits
    return StudySummary(
        experiment=None,
        roots=1,
        replicas=variants[0].replicas,
        steps=int(steps[-1]),
        record_every=int(steps[0]),
        epochs=float(study.dataset.epoch.values[-1]),
        num_test=study.predictions.correct.shape[1],
        num_classes=None if logits is None else logits.shape[-1],
        sources=[name for name in SOURCES if any(v.varied == (name,) for v in variants)],
        whole=most,
        control=_control(study, rows),
        variants=[
            _variant(study, variant, rows[variant.name], samples[variant.name], samples[most])
            for variant in variants
        ],
        components=[],
        commitment=[],
        shares=[],
        groups=[],
        notes=[*study.notes, *_left_out(study)],
        map=None,
        unused=[],
        training_id=study.dataset.attrs.get("training_id"),
    )


def _left_out(study: StudyResult) -> list[str]:
    """Returns notes on what is given but not measured."""
    predictions = study.predictions
    if not predictions.groups or (predictions.logits is not None and _is_binary(predictions)):
        return []
    return ["subgroups are left out: their error rates need a task of two classes"]


def _is_binary(predictions: Predictions) -> bool:
    return predictions.logits.shape[-1] == 2


class _Sample:
    """Quantities of a variant that several measures need; None with fewer than two replicas."""

    def __init__(self, study: StudyResult, rows: np.ndarray):
        self.used = rows[study.diverged[rows] < 0]
        self.enough = len(self.used) > 1
        if not self.enough:
            return
        predictions = study.predictions
        self.correct = predictions.correct[self.used]
        self.accuracy = accuracy(self.correct)
        self.loss = predictions.loss[self.used].mean(axis=1, dtype=np.float64)
        params = jax.tree.map(lambda leaf: leaf[self.used], study.params)
        self.weights = weight_distances(params)
        self.classes = None if predictions.logits is None else predictions.classes[self.used]
        self.churn = None if self.classes is None else churn(self.classes)
        self.logits = None if self.classes is None else predictions.logits[self.used]


def _control(study: StudyResult, rows_by_name: Mapping[str, np.ndarray]) -> Control:
    """Checks that replicas in which nothing varies are equal to the bit, weights and predictions.

    Those of CONTROL, and the first of every other variant, which is the same training once more.
    Where they diverge, only what was recorded before says anything; "exact" is None if that is
    nothing.
    """
    firsts = [own[0] for name, own in rows_by_name.items() if name != CONTROL]
    rows = np.array([*rows_by_name[CONTROL], *firsts])
    first = study.dataset.first_apart.values[rows]
    parted = first[np.isfinite(first)]
    alike = all(
        np.array_equal(
            leaf[rows], np.broadcast_to(leaf[rows[:1]], leaf[rows].shape), equal_nan=True
        )
        for leaf in (*jax.tree.leaves(study.params), study.predictions.loss)
    )
    diverged = study.diverged[rows][study.diverged[rows] >= 0]
    seen = not len(diverged) or diverged.min() > study.dataset.step.values[0]
    exact = alike and not len(parted)
    return Control(
        exact=exact if seen or not exact else None,
        first_apart=int(parted.min()) if len(parted) else None,
        diverged=int(diverged.min()) if len(diverged) else None,
        replicas=len(rows),
    )


def _kind(variant: Variant) -> str:
    if variant.forks:
        return "fork"
    if variant.varied == (variant.name,):
        return "source"
    return "together" if variant.varied else "control"


def _variant(
    study: StudyResult, variant: Variant, rows: np.ndarray, own: _Sample, reference: _Sample
) -> VariantSummary:
    diverged = {str(r): int(study.diverged[row]) for r, row in enumerate(rows)}
    diverged = {r: step for r, step in diverged.items() if step >= 0}
    summary = VariantSummary(
        **variant._asdict(),
        kind=_kind(variant),
        rows=(int(rows[0]), int(rows[-1]) + 1),
        num_diverged=len(diverged),
        diverged=diverged,
        used=len(own.used),
        parting=_parting(study, variant, rows),
        barrier=_barrier(study, variant),
    )
    if not own.enough:
        return summary
    summary = replace(
        summary,
        accuracy=_spread(own.accuracy, (0.0, 1.0)),
        cross_entropy=_spread(own.loss, (0.0, np.inf)),
        l2_distance=estimate(pair_interval(own.weights.l2_RxR), (0.0, 2.0)),
        angle=estimate(pair_interval(own.weights.angle_RxR), (0.0, np.pi)),
    )
    if own.classes is not None:
        summary = _with_classes(summary, study, own)
    if reference.enough and own is not reference and variant.varied:
        summary = _with_shares(summary, own, reference)
    # Its modes are all there are, not a sample of them.
    return summary if is_sampled(variant) else without_ends(summary)


def _with_shares(summary: VariantSummary, own: _Sample, reference: _Sample) -> VariantSummary:
    return replace(
        summary,
        share_of_variance=estimate(ratio_of_variance(own.accuracy, reference.accuracy)),
        share_of_churn=None
        if own.churn is None
        else estimate(ratio_of_pairs(own.churn, reference.churn)),
        share_of_l2=estimate(ratio_of_pairs(own.weights.l2_RxR, reference.weights.l2_RxR)),
    )


def _with_classes(summary: VariantSummary, study: StudyResult, own: _Sample) -> VariantSummary:
    """Adds the measures that need to know what each example is taken for."""
    label = study.predictions.label
    classes = _classes(own, label)
    ratios = [entry.ratio for entry in classes if entry.ratio is not None]
    gain = ensemble_gain(own.logits, label)
    return replace(
        summary,
        churn=estimate(pair_interval(own.churn), (0.0, 1.0)),
        logit_correlation=_correlation(own.logits),
        ensemble_gain=estimate(pair_interval(gain), (-1.0, 1.0)),
        test_set_variance=independent_error_variance(own.correct),
        distribution_variance=distribution_variance(own.correct),
        classes=classes,
        class_ratio=ClassRatio(float(np.mean(ratios)), max(ratios)) if ratios else None,
        groups=_groups(study, own),
    )


def _classes(own: _Sample, label: np.ndarray) -> list[ClassSpread]:
    by_class, top_line = class_accuracy(own.correct, label), _sd(own.accuracy)
    return [
        ClassSpread(
            label=int(name),
            accuracy=float(values.mean()),
            sd=_sd(values),
            ratio=_ratio(_sd(values), top_line),
            interval=estimate(ratio_within(values, own.accuracy)),
        )
        for name, values in zip(by_class.classes, by_class.accuracy_RxK.T, strict=True)
    ]


def _correlation(logits: np.ndarray) -> Estimate | None:
    """Returns the correlation of logits; None where all logits of a replica are equal."""
    if (np.ptp(logits.reshape(len(logits), -1), axis=1) == 0).any():
        return None
    return estimate(pair_interval(logit_correlation(logits)), (-1.0, 1.0))


def _groups(study: StudyResult, own: _Sample) -> list[GroupSpread] | None:
    """Returns SD of accuracy and of both error rates by subgroup, against the overall ones.

    Accuracy counts what `correct` does, a tie as wrong; the rates count what is predicted.
    """
    predictions = study.predictions
    if not predictions.groups or not _is_binary(predictions):
        return None
    everyone = np.ones((1, len(predictions.label)), bool)
    members = np.stack(list(predictions.groups.values()))
    of_groups = group_rates(own.classes, predictions.label, members)
    of_all = group_rates(own.classes, predictions.label, everyone)
    of_groups = of_groups._replace(accuracy=_of_members(own.correct, members))
    of_all = of_all._replace(accuracy=_of_members(own.correct, everyone))
    return [
        GroupSpread(
            group=name,
            size=int(members[column].sum()),
            **{
                rate: _rate(getattr(of_groups, rate)[:, column], getattr(of_all, rate)[:, 0])
                for rate in ("accuracy", "fpr", "fnr")
            },
        )
        for column, name in enumerate(predictions.groups)
    ]


def _rate(values: np.ndarray, reference: np.ndarray) -> RateSpread:
    """Returns the SD of a rate [replica] of a group, against that of all examples."""
    if not np.isfinite(values).all():  # a group without a positive, or a negative
        return RateSpread(None, None, None, None)
    return RateSpread(
        mean=float(values.mean()),
        sd=_sd(values),
        ratio=_ratio(_sd(values), _sd(reference)),
        interval=estimate(ratio_within(values, reference)),
    )


def _of_members(correct: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Returns accuracy, float64 [replica, group], NaN of a group without members."""
    shares = [
        np.mean(correct[:, group], axis=1, dtype=np.float64)
        if group.any()
        else np.full(len(correct), np.nan)
        for group in members
    ]
    return np.stack(shares, axis=1)


def _parting(study: StudyResult, variant: Variant, rows: np.ndarray) -> Parting:
    """Returns when replicas diverge from the first one, and how fast their distance grows."""
    others = rows[1:]  # replica 0 of every variant is row 0 again
    first = study.dataset.first_apart.values[others].astype(float)
    used = others[study.diverged[others] < 0]
    churns = study.dataset.churn.values[used] if "churn" in study.dataset else np.zeros((0, 1))
    return Parting(
        first_apart=[None if np.isnan(row).all() else int(np.nanmin(row)) for row in first],
        growth=_growth(study, variant, others),
        # Where all replicas end alike, as after grokking, they differ on the way.
        largest_churn=median([float(np.nanmax(row)) for row in churns if np.isfinite(row).any()]),
    )


def _growth(study: StudyResult, variant: Variant, others: np.ndarray) -> GrowthSummary:
    """Returns the growth of distances to the first replica, from where they may differ."""
    steps = study.dataset.step.values
    begins = study.ulp_step if variant.name == "ulp" else variant.fork
    after = steps > begins
    grown = [
        growth(row.astype(np.float64), steps[after] - begins)
        for row in study.dataset.distance.values[others][:, after]
        if np.isfinite(row).all()
    ]
    kinds = [curve.better for curve in grown if curve.better]
    return GrowthSummary(
        rate=median([curve.rate for curve in grown]),
        power=median([curve.power for curve in grown]),
        better=max(sorted(set(kinds)), key=kinds.count) if kinds else None,
        replicas=sum(curve.rate is not None for curve in grown),
    )


def _barrier(study: StudyResult, variant: Variant) -> Barrier | None:
    """Returns the height of the barrier between pairs of replicas."""
    errors = study.barriers[study.variants.index(variant)]
    values = error_barrier(errors[np.isfinite(errors).all(axis=1)])
    if not len(values):
        return None
    mean = float(values.mean())
    return Barrier(values.tolist(), mean, Estimate(mean, None, None))


def _spread(values: np.ndarray, within: tuple[float, float]) -> Spread:
    # What lies in a range spreads by half of it at most; of a few values ddof 1 makes it more.
    largest = max((within[1] - within[0]) / 2, _sd(values))
    return Spread(
        mean=estimate(mean_interval(values), within),
        sd_error=sd_error(values),
        sd=estimate(sd_interval(values), (0.0, largest)),
        values=values.tolist(),
    )


def _sd(values: np.ndarray) -> float:
    return float(standard_deviation(values))


def _ratio(sd: float, reference: float) -> float | None:
    return sd / reference if reference > 0 else None

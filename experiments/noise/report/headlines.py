"""Findings of a study of noise, as sentences written from its numbers."""

import math
from collections.abc import Callable, Sequence

from seedmap.experiments.noise.components import CONVERGENCE, LOSS
from seedmap.experiments.noise.estimates import WITHIN
from seedmap.experiments.noise.measures.components import Commitment
from seedmap.experiments.noise.measures.shares import shares_along
from seedmap.experiments.noise.report.answer import percent_or_not
from seedmap.experiments.noise.results import (
    Estimate,
    GrowthSummary,
    StudySummary,
    VariantSummary,
)
from seedmap.experiments.noise.variants import ALGO, ALGORITHMIC, IMPL, IMPLEMENTATION
from seedmap.text import (
    DASH,
    NOT_DETERMINED,
    interval,
    number,
    percent,
    says_nothing,
)

MOST_FIXED = 0.5  # of a variance: an interval above it says that most is fixed
VARIED = {
    "init": "another initialisation",
    "order": "another order of the examples",
    "augment": "other augmentation",
    "dropout": "other dropout masks",
    "accumulation": "sums over a batch in another order",
    "precision": "products in another precision",
    "ulp": "one weight moved by one unit in the last place",
}
RATES = {
    "accuracy": "accuracy",
    "fpr": "the false positive rate",
    "fnr": "the false negative rate",
}


def what_varies(variant: VariantSummary) -> str:
    """Returns the sources of a variant in words."""
    if variant.kind == "control":
        return "nothing"
    name = variant.name
    if variant.kind == "fork":
        sources = ", ".join(variant.varied)
        return f"{sources} after the first {variant.fork} steps, which are shared"
    return VARIED[name] if name in VARIED else " + ".join(variant.varied)


def headlines(summary: StudySummary) -> list[str]:
    """Returns the findings, a sentence or two each; fewer where fewer numbers are known."""
    makers: Sequence[Callable[[StudySummary], list[str]]] = (
        *(_control, _whole, _sources, _one_bit, _fate, _top_line, _classes, _groups),
        *(_growth, _barriers, _paths, _diverged),
    )
    return [sentence for make in makers for sentence in make(summary)]


def _control(summary: StudySummary) -> list[str]:
    control = summary.control
    if control.exact is None:
        return [
            f"CONTROL shows nothing: its replicas had diverged by the first record (step "
            f"{control.diverged})."
        ]
    if control.exact and control.diverged is not None:
        return [
            f"CONTROL is exactly zero until its replicas diverge, at step {control.diverged}: "
            f"{control.replicas} in which nothing varies have the same weights to the bit."
        ]
    if control.exact:
        return [
            f"CONTROL is exactly zero: {control.replicas} replicas in which nothing varies have "
            "the same weights to the bit, so that all that follows is due to what was varied."
        ]
    first = control.first_apart
    when = f"first after step {first}" if first is not None else "first seen in their predictions"
    return [
        f"CONTROL is not zero: {control.replicas} replicas in which nothing varies differ, {when}."
        " The program is not deterministic here, and every other variant includes that noise."
    ]


def _whole(summary: StudySummary) -> list[str]:
    variant = summary.all_sources
    if variant.kind == "control" or not variant.accuracy:
        return []
    mean, sd = variant.accuracy.mean.value, variant.accuracy.sd
    sentence = (
        f"With all sources together ({variant.name}) accuracy is {percent(mean, 4)} on average, "
        f"with {_deviation(sd)} over {variant.used} replicas"
    )
    if variant.churn and not says_nothing(variant.churn, WITHIN["churn"]):
        sentence += (
            f"; two of them disagree on {interval(variant.churn, 100.0, ' %')} of the test "
            "examples (churn)"
        )
    return [sentence + "."]


def _deviation(sd: Estimate) -> str:
    if says_nothing(sd):
        return f"a standard deviation that is {NOT_DETERMINED}"
    return f"a standard deviation of {interval(sd, 100.0)} percentage points"


def _sources(summary: StudySummary) -> list[str]:
    """Describes each source alone and each set, most churn (or variance) first."""
    key = "share_of_churn" if summary.num_classes else "share_of_variance"
    shares = {v.name: getattr(v, key) for v in summary.variants}
    shown = [v for v in _described(summary) if is_known(shares[v.name])]
    ranked = sorted(shown, key=lambda v: -shares[v.name].value)
    return [_source(summary, variant) for variant in ranked]


def _described(summary: StudySummary) -> list[VariantSummary]:
    """Returns the variants but those of the commitment curve, which stand in a table and figure."""
    of_curve = {f"{point.source}@{point.step}" for point in summary.commitment}
    return [variant for variant in summary.variants if variant.name not in of_curve]


def is_known(share: Estimate | None) -> bool:
    """Tells whether an estimate has a value."""
    return share is not None and share.value is not None


def _source(summary: StudySummary, variant: VariantSummary) -> str:
    clauses = []
    if is_known(variant.share_of_churn):
        churn = interval(variant.churn, 100.0, " %", within=WITHIN["churn"])
        times = _times(variant.share_of_churn)
        clauses.append(f"churn {churn}, {times} that of {summary.whole}")
    if is_known(variant.share_of_variance):
        times = _times(variant.share_of_variance)
        clauses.append(f"variance of accuracy {times} that of {summary.whole}")
    return f"{variant.name} ({what_varies(variant)}): {'; '.join(clauses)}."


def _times(share: Estimate) -> str:
    return f"{NOT_DETERMINED} against" if says_nothing(share) else f"{interval(share)} times"


def _one_bit(summary: StudySummary) -> list[str]:
    """Whether one bit does all that all sources do to predictions, and from when on."""
    curves = [c for c in summary.shares if (c.source, c.measure) == ("ulp", "churn")]
    if not curves or summary.roots == 1:
        return []
    (curve,) = curves
    end = shares_along(curve)[-1]
    if end.value is None:
        return []
    if says_nothing(end):
        return [f"Which share of all churn one unit in the last place brings is {NOT_DETERMINED}."]
    share = f"{interval(end, digits=2)} of the churn of {summary.whole} at the last record"
    if curve.whole_at is None:
        return [f"One unit in the last place brings {share}; that it brings all is not shown."]
    return [
        f"One unit in the last place brings {share}; from step {curve.whole_at} on every interval "
        "holds 1 and none reaches below a half."
    ]


def _fate(summary: StudySummary) -> list[str]:
    """By which step most of the convergence time is fixed, and what the loss tells by then."""
    points = [p for p in summary.commitment if p.measure == CONVERGENCE]
    by_loss = {p.step: p for p in points if p.source == LOSS}
    sentences = []
    for source in dict.fromkeys(p.source for p in points if p.source != LOSS):
        own = sorted((p for p in points if p.source == source), key=lambda p: p.step)
        left_open = [p.step for p in own if p.fixed is None or p.fixed < MOST_FIXED]
        later = [p for p in own if p.step > max(left_open, default=-1)]
        first = next((p for p in later if (p.low or 0.0) >= MOST_FIXED), None)
        if first is None:
            continue
        by = "from the start" if first.step == 0 else f"by step {first.step}"
        sentence = (
            f"Whatever {source} does from there on, {_fixed(first)} of the variance of the time of "
            f"convergence (its logarithm) is fixed {by}"
        )
        loss = by_loss.get(first.step)
        addition = "" if loss is None else f"; the test loss there tells of it: {_fixed(loss)}"
        sentences.append(f"{sentence}{addition}.")
    return sentences


def _fixed(point: Commitment) -> str:
    return percent_or_not(point.fixed, point.low, point.high)


def _top_line(summary: StudySummary) -> list[str]:
    """Describes the spread of accuracy due to the finite test set (Jordan, arXiv 2304.01910)."""
    variant = summary.all_sources
    test, rest = variant.test_set_variance, variant.distribution_variance
    if variant.kind == "control" or test is None or rest is None:
        return []
    beyond = f"{number(100 * math.sqrt(max(rest, 0.0)))} percentage points"
    if rest <= 0:
        beyond += " (the estimate of its square is not above 0)"
    return [
        "Errors made independently on each of these test examples would by themselves spread "
        f"accuracy by {number(100 * math.sqrt(test))} percentage points ({variant.name}); over "
        f"the distribution the examples come from, its standard deviation is put at {beyond}."
    ]


def _classes(summary: StudySummary) -> list[str]:
    variant = _best(summary, "class_ratio")
    if not variant:
        return []
    by_size = math.sqrt(num_tested(summary))
    beyond = sum(above(spread.interval, by_size) for spread in variant.classes)
    spread = "spreads" if beyond == 1 else "spread"
    counted = f"{beyond} {spread}" if beyond else "none is known to spread"
    return [
        f"Of {len(variant.classes)} classes {counted} by more than size explains: a 95 % interval "
        "of the standard deviation of the class's accuracy over that of the whole above "
        f"{number(by_size)}, the ratio of classes of equal size that err independently "
        f"({variant.name})."
    ]


def above(interval: Estimate, bar: float) -> bool:
    """Tells whether a whole interval is above a bar."""
    return interval.low is not None and interval.low > bar


def _best(summary: StudySummary, key: str) -> VariantSummary | None:
    """Returns the variant of all sources if it has some numbers, else the first that does."""
    most = summary.all_sources
    having = [variant for variant in (most, *summary.variants) if getattr(variant, key)]
    return having[0] if having else None


def _groups(summary: StudySummary) -> list[str]:
    variant = _best(summary, "groups")
    if not variant:
        return []
    ratios = [
        (getattr(group, rate).ratio, group.group, rate)
        for group in variant.groups
        for rate in RATES
        if getattr(group, rate).ratio is not None
    ]
    if not ratios:
        return []
    ratio, group, rate = max(ratios)
    return [
        f"Of the subgroups, {group} spreads most relative to all examples: {RATES[rate]} has "
        f"{number(ratio)} times the standard deviation it has over all test examples "
        f"({variant.name})."
    ]


def first_apart(variant: VariantSummary) -> int | None:
    """Returns the first step after which two replicas of a variant differ; None if none do."""
    steps = [step for step in variant.parting.first_apart if step is not None]
    return min(steps, default=None)


def when_apart(variant: VariantSummary) -> str:
    """Returns that step in words: "never" if no replica differs; a dash if one diverged before."""
    first = first_apart(variant)
    if first is not None:
        return str(first)
    return DASH if variant.num_diverged else "never"


def _growth(summary: StudySummary) -> list[str]:
    """Describes growth under the tools' sources: they start small enough for it to be seen."""
    sentences = []
    for variant in summary.variants:
        first, growth = first_apart(variant), variant.parting.growth
        if variant.name not in IMPLEMENTATION or first is None:
            continue
        sentence = f"{variant.name}: replicas differ after step {first}"
        sentences.append(f"{sentence}; {_grows(growth, variant)}{_of_how_many(variant)}.")
    return sentences


def _of_how_many(variant: VariantSummary) -> str:
    """Returns how many replicas the median growth is of; in the others there is none to follow."""
    followed, others = variant.parting.growth.replicas, variant.replicas - 1
    if not 0 < followed < others:
        return ""
    return f" (of {followed} of {others} replicas; in the others there is no growth to measure)"


def _grows(growth: GrowthSummary, variant: VariantSummary) -> str:
    rate, power = growth.rate, growth.power
    if rate is None and variant.num_diverged:
        return "they diverge before its growth can be measured"
    if rate is None or power is None:
        return "their distance saturates too soon for its growth to be measured"
    if rate <= 0:
        return "their distance does not grow"
    if growth.better == "power":
        return (
            f"their distance then grows about as step to the power of {number(power)}, which fits "
            "better than an exponential"
        )
    better = ", which fits better than a power" if growth.better else ""
    doubles = number(math.log(2) / rate)
    return (
        f"their distance then grows about exponentially and doubles every {doubles} steps{better}"
    )


def _barriers(summary: StudySummary) -> list[str]:
    having = [v for v in _described(summary) if v.barrier]
    if not having:
        return []
    listed = ", ".join(f"{v.name} {interval(v.barrier.interval, 100.0)}" for v in having)
    of_one = "" if summary.roots > 1 else "; of a few pairs around one training, no interval"
    return [
        "Error barrier on the line between two replicas' weights, in percentage points above the "
        f"mean of its ends: {listed}{of_one}."
    ]


def _paths(summary: StudySummary) -> list[str]:
    """Describes paths through the map of replicas that differ in the tools' noise alone."""
    having = [v for v in summary.variants if v.paths and v.paths.dissimilarity]
    tools = [v for v in having if v.varied and set(v.varied) <= {*IMPLEMENTATION}]
    named = [variant for variant in tools if variant.name == IMPL] or tools
    chance = [v for v in having if set(v.varied) & {*ALGORITHMIC}]
    likely = {v.name: v for v in chance}
    other = likely.get(ALGO) or likely.get(summary.whole) or (chance[0] if chance else None)
    return [_path(variant, other) for variant in named]


def _path(variant: VariantSummary, other: VariantSummary | None) -> str:
    paths = variant.paths
    if paths.distinct == 1:
        went = "take one path through the training map: the states in one order"
    else:
        went = f"take {paths.distinct} different paths through the training map"
    sentence = (
        f"Replicas that differ in {variant.name} noise alone {went}; dissimilarity "
        f"{interval(paths.dissimilarity.discrete)}"
    )
    if other:
        compared = interval(other.paths.dissimilarity.discrete)
        sentence += f", against {compared} with {other.name}"
    if paths.detour_rate is not None:
        time, unit = paths.detour_time, paths.convergence.unit
        sentence += (
            f"; {percent(paths.detour_rate)} of them pass a detour state, and on average they "
            f"spend {number(time.mean, 3)} {unit}s in such states"
        )
        if time.sd is not None:
            sentence += f" (SD {interval(time.sd)})"
    return sentence + "."


def _diverged(summary: StudySummary) -> list[str]:
    lost = [v for v in summary.variants if v.num_diverged]
    if not lost:
        return []
    listed = ", ".join(f"{v.num_diverged} of {v.replicas} of {v.name}" for v in lost)
    return [f"Replicas that diverged and are left out of the measures: {listed}."]


def num_tested(summary: StudySummary) -> int:
    """Returns the number of classes in the test examples; the network may have more."""
    return max(len(variant.classes or ()) for variant in summary.variants)

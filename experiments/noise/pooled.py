"""A study of several roots as one summary: each measure taken within roots, then over roots.

Means are those of the roots' values, with t intervals over roots. Standard deviations are the root
mean square of the roots', and a share is the mean of a source's quantity over that of all sources
(variance, churn, distance); their intervals are value * exp(± t s), s the first-order standard
error of the logarithm over roots (of a ratio as of Cochran 1977, section 6.4). So an interval is
of what sources do in general; that of one root is of what they do around one training.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from seedmap.experiments.noise.estimates import WITHIN, estimate
from seedmap.experiments.noise.measures.intervals import mean_interval
from seedmap.experiments.noise.measures.shares import ratio_over_roots
from seedmap.experiments.noise.results import (
    Barrier,
    ClassRatio,
    ClassSpread,
    Control,
    DetourTime,
    Estimate,
    GroupSpread,
    GrowthSummary,
    Parting,
    PathConvergence,
    PathDissimilarity,
    PathSummary,
    RateSpread,
    Spread,
    StudySummary,
    VariantSummary,
)

Entry = TypeVar("Entry")
_ANY = (-np.inf, np.inf)
_SHARES = {
    "share_of_variance": lambda v: v.accuracy and v.accuracy.sd.value**2,
    "share_of_churn": lambda v: v.churn and v.churn.value,
    "share_of_l2": lambda v: v.l2_distance and v.l2_distance.value,
}


def pooled(of_roots: Sequence[StudySummary]) -> StudySummary:
    """Returns the summary of all roots; of one root as it is.

    Args:
        of_roots: the summary of each root alone, of the same variants.
    """
    first = of_roots[0]
    if len(of_roots) == 1:
        return first
    by_name = {v.name: [root.variant(v.name) for root in of_roots] for v in first.variants}
    return replace(
        first,
        roots=len(of_roots),
        control=_control([root.control for root in of_roots]),
        variants=[_variant(of, by_name[first.whole]) for of in by_name.values()],
    )


def _control(of_roots: Sequence[Control]) -> Control:
    exact = [control.exact for control in of_roots]
    return Control(
        exact=False if False in exact else None if None in exact else True,
        first_apart=_least([control.first_apart for control in of_roots]),
        diverged=_least([control.diverged for control in of_roots]),
        replicas=sum(control.replicas for control in of_roots),
    )


def _least(values: Sequence[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _variant(
    of_roots: Sequence[VariantSummary], reference: Sequence[VariantSummary]
) -> VariantSummary:
    """Pools a variant, `reference` being that of all sources in the same roots."""

    def each(name: str) -> list[Any]:
        return [getattr(variant, name) for variant in of_roots]

    first = of_roots[0]
    shares = {}
    if first.kind != "control" and first.name != reference[0].name:
        shares = {name: _share(of_roots, reference, get) for name, get in _SHARES.items()}
    return replace(
        first,
        num_diverged=sum(each("num_diverged")),
        diverged={
            f"{root}:{replica}": step
            for root, steps in enumerate(each("diverged"))
            for replica, step in steps.items()
        },
        used=sum(each("used")),
        parting=_parting(each("parting")),
        barrier=_barrier(each("barrier")),
        accuracy=_spread(each("accuracy"), (0.0, 1.0)),
        cross_entropy=_spread(each("cross_entropy"), (0.0, np.inf)),
        test_set_variance=_mean(each("test_set_variance")),
        distribution_variance=_mean(each("distribution_variance")),
        classes=_classes(each("classes")),
        class_ratio=_class_ratio(each("class_ratio")),
        groups=_groups(each("groups")),
        **{name: over_roots(each(name), within) for name, within in WITHIN.items()},
        **shares,
    )


def over_roots(
    of_roots: Sequence[Estimate | float | None], within: tuple[float, float] = _ANY
) -> Estimate | None:
    """Returns the mean over roots that have a value, with its interval.

    Args:
        of_roots: of each root; the intervals within roots have no part in it.
        within: the values there can be.
    """
    values = _known([e.value if isinstance(e, Estimate) else e for e in of_roots])
    if len(values) < 2:
        return Estimate(float(values[0]), None, None) if len(values) else None
    return estimate(mean_interval(values), within)


def _known(values: Sequence[float | None]) -> np.ndarray:
    return np.array([value for value in values if value is not None], float)


def _mean(values: Sequence[float | None]) -> float | None:
    known = _known(values)
    return float(known.mean()) if len(known) else None


def _share(
    of_roots: Sequence[VariantSummary],
    reference: Sequence[VariantSummary],
    get: Callable[[VariantSummary], float | None],
) -> Estimate | None:
    pairs = [
        (own, all_)
        for own, all_ in ((get(v), get(w)) for v, w in zip(of_roots, reference, strict=True))
        if own is not None and all_ is not None
    ]
    return ratio_over_roots(*np.array(pairs, float).reshape(-1, 2).T)


def _rms(sds: Sequence[float | None]) -> Estimate | None:
    """Returns the root mean square of standard deviations, with its interval."""
    squares = _known(sds) ** 2
    mean = ratio_over_roots(squares, np.ones(len(squares)))
    return mean and Estimate(*(None if end is None else end**0.5 for end in vars(mean).values()))


def _spread(of_roots: Sequence[Spread | None], within: tuple[float, float]) -> Spread | None:
    known = [spread for spread in of_roots if spread is not None]
    if not known:
        return None
    sd = _rms([spread.sd.value for spread in known])
    errors = [spread.sd_error for spread in known]
    return Spread(
        mean=over_roots([spread.mean for spread in known], within),
        # Of the mean of as many independent SDs.
        sd_error=None if None in errors else float(np.linalg.norm(errors) / len(errors)),
        sd=sd,
        values=[value for spread in known for value in spread.values],
    )


def _parting(of_roots: Sequence[Parting]) -> Parting:
    growths = [parting.growth for parting in of_roots]
    kinds = [growth.better for growth in growths if growth.better]
    return Parting(
        first_apart=[step for parting in of_roots for step in parting.first_apart],
        growth=GrowthSummary(
            rate=median([growth.rate for growth in growths]),
            power=median([growth.power for growth in growths]),
            better=max(sorted(set(kinds)), key=kinds.count) if kinds else None,
            replicas=sum(growth.replicas for growth in growths),
        ),
        largest_churn=median([parting.largest_churn for parting in of_roots]),
    )


def median(values: Sequence[float | None]) -> float | None:
    """Returns the median of the numbers that are known; None where none is."""
    known = _known(values)
    return float(np.median(known)) if len(known) else None


def _barrier(of_roots: Sequence[Barrier | None]) -> Barrier | None:
    known = [barrier for barrier in of_roots if barrier]
    if not known:
        return None
    values = [value for barrier in known for value in barrier.values]
    interval = over_roots([barrier.mean for barrier in known], (0.0, 1.0))
    return Barrier(values, float(np.mean(values)), interval)


def _entries(of_roots: Sequence[list[Entry] | None], key: str) -> list[list[Entry]]:
    """Returns the entries of one key (a class, a group) that all roots have, by key."""
    known = [entries for entries in of_roots if entries]
    by_key = [{getattr(entry, key): entry for entry in entries} for entries in known]
    common = [name for name in (by_key[0] if by_key else ()) if all(name in k for k in by_key)]
    return [[entries[name] for entries in by_key] for name in common]


def _classes(of_roots: Sequence[list[ClassSpread] | None]) -> list[ClassSpread] | None:
    return [
        ClassSpread(
            label=entries[0].label,
            accuracy=float(np.mean([entry.accuracy for entry in entries])),
            sd=_rms([entry.sd for entry in entries]).value,
            ratio=_mean([entry.ratio for entry in entries]),
            interval=over_roots([entry.ratio for entry in entries], (0.0, np.inf))
            or Estimate(None, None, None),
        )
        for entries in _entries(of_roots, "label")
    ] or None


def _class_ratio(of_roots: Sequence[ClassRatio | None]) -> ClassRatio | None:
    known = [ratio for ratio in of_roots if ratio]
    if not known:
        return None
    return ClassRatio(float(np.mean([r.mean for r in known])), max(r.max for r in known))


def _groups(of_roots: Sequence[list[GroupSpread] | None]) -> list[GroupSpread] | None:
    return [
        replace(
            entries[0],
            **{
                rate: _rate([getattr(entry, rate) for entry in entries])
                for rate in ("accuracy", "fpr", "fnr")
            },
        )
        for entries in _entries(of_roots, "group")
    ] or None


def _rate(of_roots: Sequence[RateSpread]) -> RateSpread:
    sd = _rms([rate.sd for rate in of_roots])
    return RateSpread(
        mean=_mean([rate.mean for rate in of_roots]),
        sd=sd and sd.value,
        ratio=_mean([rate.ratio for rate in of_roots]),
        interval=over_roots([rate.ratio for rate in of_roots], (0.0, np.inf)),
    )


def pooled_paths(of_roots: Sequence[PathSummary]) -> PathSummary:
    """Returns a variant's paths through the map over all roots; of one root as they are.

    `distinct` is the largest number of any root: how many ways a root's replicas go.
    """
    if len(of_roots) == 1:
        return of_roots[0]
    grounds = [paths.dissimilarity for paths in of_roots if paths.dissimilarity]
    times = [paths.detour_time for paths in of_roots if paths.detour_time]
    convergences = [paths.convergence for paths in of_roots]
    sds = [c.sd.value for c in convergences if c.sd]
    return PathSummary(
        dissimilarity=PathDissimilarity(
            **{
                ground: over_roots([getattr(g, ground) for g in grounds], (0.0, np.inf))
                for ground in ("index", "discrete", "means")
            }
        )
        if grounds
        else None,
        distinct=max(paths.distinct for paths in of_roots),
        detour_rate=_mean([paths.detour_rate for paths in of_roots]),
        detour_time=DetourTime(
            float(np.mean([time.mean for time in times])),
            _rms([time.sd.value for time in times if time.sd]),
        )
        if times
        else None,
        convergence=PathConvergence(
            num=sum(c.num for c in convergences),
            mean=_mean([c.mean for c in convergences]),
            sd=_rms(sds),
            unit=convergences[0].unit,
        ),
    )

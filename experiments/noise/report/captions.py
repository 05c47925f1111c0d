"""What a study of noise found, in plain words: sentences and captions written from the numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seedmap.experiments.noise.variants import ALGO, ALGORITHMIC, IMPL, IMPLEMENTATION
from seedmap.experiments.report.captions import part
from seedmap.experiments.runs.folder import NOISE_MAP

DASH = "\N{EN DASH}"
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

Found = Mapping[str, Any]


def number(value: float | None, digits: int = 3) -> str:
    """A number to some significant digits; a dash for none, and 0 for exactly 0 only."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    whole = 10**digits <= abs(value) < 1e9
    text = f"{value:.0f}" if whole else f"{value:#.{digits}g}".rstrip(".")
    return text.replace("-", "\N{MINUS SIGN}")


def percent(value: float | None, digits: int = 3) -> str:
    """A share in per cent."""
    return DASH if value is None else f"{number(100 * value, digits)} %"


def interval(found: Any, factor: float = 1.0, unit: str = "", digits: int = 3) -> str:
    """`3.1 % [2.8, 3.4]`, or the bare value where no interval is defined."""
    if not found or found["value"] is None:
        return DASH
    value, low, high = (
        None if found[key] is None else factor * found[key] for key in ("value", "low", "high")
    )
    text = number(value, digits) + unit
    if low is None or high is None or low == high:
        return text
    return f"{text} [{number(low, digits)}, {number(high, digits)}]"


def what_varies(variant: Found) -> str:
    """The sources of a variant in words."""
    if variant["kind"] == "control":
        return "nothing"
    name = variant["name"]
    if variant["kind"] == "fork":
        sources = ", ".join(variant["varied"])
        return f"{sources} after the first {variant['fork']} steps, which are shared"
    return VARIED[name] if name in VARIED else " + ".join(variant["varied"])


def variant_of(found: Found, name: str) -> Found | None:
    """The variant of that name, if there is one."""
    return next((v for v in found["variants"] if v["name"] == name), None)


def headlines(found: Found) -> list[str]:
    """What was found, a sentence or two for each thing worth knowing; fewer where less is known."""
    makers: Sequence[Callable[[Found], list[str]]] = (
        *(_control, _whole, _sources, _top_line, _classes, _groups),
        *(_growth, _barriers, _paths, _diverged),
    )
    return [sentence for make in makers for sentence in make(found)]


def _control(found: Found) -> list[str]:
    control = found["control"]
    if control["exact"] is None:
        return [
            f"CONTROL shows nothing: its replicas had diverged by the first record (step "
            f"{control['diverged']})."
        ]
    if control["exact"] and control["diverged"] is not None:
        return [
            f"CONTROL is exactly zero until its replicas diverge, at step {control['diverged']}: "
            f"{control['replicas']} in which nothing varies have the same weights to the bit."
        ]
    if control["exact"]:
        return [
            f"CONTROL is exactly zero: {control['replicas']} replicas in which nothing varies have "
            "the same weights to the bit, so that all that follows is due to what was varied."
        ]
    first = control["first_apart"]
    when = f"first after step {first}" if first is not None else "first seen in their predictions"
    return [
        f"CONTROL is not zero: {control['replicas']} replicas in which nothing varies part, {when}."
        " The program is not deterministic here, and every other variant has that noise in it."
    ]


def _whole(found: Found) -> list[str]:
    variant = variant_of(found, found["whole"])
    if variant["kind"] == "control" or not variant["accuracy"]:
        return []
    mean, sd = variant["accuracy"]["mean"]["value"], variant["accuracy"]["sd"]
    said = (
        f"With all sources together ({variant['name']}) accuracy is {percent(mean, 4)} on average, "
        f"with a standard deviation of {interval(sd, 100)} percentage points over "
        f"{variant['used']} replicas"
    )
    if variant["churn"]:
        said += (
            f"; two of them disagree on {interval(variant['churn'], 100, ' %')} of the test "
            "examples (churn)"
        )
    return [said + "."]


def _sources(found: Found) -> list[str]:
    """Of each source alone and each set, most churn (or variance) first."""
    key = "churn" if found["num_classes"] else "variance"
    shown = [v for v in found["variants"] if part(v, f"share_of_{key}", "value") is not None]
    ranked = sorted(shown, key=lambda v: -v[f"share_of_{key}"]["value"])
    return [_source(variant, found["whole"]) for variant in ranked]


def _source(variant: Found, whole: str) -> str:
    said = []
    if part(variant, "share_of_churn", "value") is not None:
        times = interval(variant["share_of_churn"])
        churn = interval(variant["churn"], 100, " %")
        said.append(f"churn {churn}, {times} times that of {whole}")
    if part(variant, "share_of_variance", "value") is not None:
        times = interval(variant["share_of_variance"])
        said.append(f"variance of accuracy {times} times that of {whole}")
    return f"{variant['name']} ({what_varies(variant)}): {'; '.join(said)}."


def _top_line(found: Found) -> list[str]:
    """How much of the spread of accuracy is the finite test set (Jordan, arXiv 2304.01910)."""
    variant = variant_of(found, found["whole"])
    test, rest = variant["test_set_variance"], variant["distribution_variance"]
    if variant["kind"] == "control" or test is None or rest is None:
        return []
    beyond = f"{number(100 * math.sqrt(max(rest, 0.0)))} percentage points"
    if rest <= 0:
        beyond += " (the estimate of its square is not above 0)"
    return [
        "Errors made independently on each of these test examples would by themselves spread "
        f"accuracy by {number(100 * math.sqrt(test))} percentage points ({variant['name']}); over "
        f"the distribution the examples come from, its standard deviation is put at {beyond}."
    ]


def _classes(found: Found) -> list[str]:
    variant = _best(found, "class_ratio")
    if not variant:
        return []
    ratio = variant["class_ratio"]
    verb = "spread more than" if ratio["mean"] > 1 else "do not spread more than"
    return [
        f"Classes {verb} the top line: the standard deviation of a class's accuracy is "
        f"{number(ratio['mean'])} times that of the whole on average, and at most "
        f"{number(ratio['max'])} times ({variant['name']}). Classes of equal size that err "
        f"independently would have about {number(math.sqrt(_num_tested(found)))} times."
    ]


def _best(found: Found, key: str) -> Found | None:
    """All sources together where they have some numbers, else the first variant that does."""
    whole = variant_of(found, found["whole"])
    having = [variant for variant in (whole, *found["variants"]) if variant[key]]
    return having[0] if having else None


def _groups(found: Found) -> list[str]:
    variant = _best(found, "groups")
    if not variant:
        return []
    ratios = [
        (group[rate]["ratio"], group["group"], rate)
        for group in variant["groups"]
        for rate in RATES
        if group[rate]["ratio"] is not None
    ]
    if not ratios:
        return []
    ratio, group, rate = max(ratios)
    return [
        f"Of the subgroups, {group} spreads most beside the whole: {RATES[rate]} has "
        f"{number(ratio)} times the standard deviation it has over all test examples "
        f"({variant['name']})."
    ]


def first_apart(variant: Found) -> int | None:
    """The first step after which any two replicas of a variant differ; None where none do."""
    steps = [step for step in variant["parting"]["first_apart"] if step is not None]
    return min(steps, default=None)


def when_apart(variant: Found) -> str:
    """That step in words: "never" where no replica parts; a dash where one diverged before."""
    first = first_apart(variant)
    if first is not None:
        return str(first)
    return DASH if variant["num_diverged"] else "never"


def _growth(found: Found) -> list[str]:
    """Of sources of tools alone: they start small enough for growth to be seen."""
    sentences = []
    for variant in found["variants"]:
        first, growth = first_apart(variant), variant["parting"]["growth"]
        if variant["name"] not in IMPLEMENTATION or first is None:
            continue
        said = f"{variant['name']}: replicas part after step {first}"
        sentences.append(f"{said}; {_grows(growth, variant)}{_of_how_many(variant)}.")
    return sentences


def _of_how_many(variant: Found) -> str:
    """The median growth may be that of a few replicas: in the others distances jump or shrink."""
    followed, others = variant["parting"]["growth"]["replicas"], variant["replicas"] - 1
    if not 0 < followed < others:
        return ""
    return f" (of {followed} of {others} replicas; in the others there is no growth to follow)"


def _grows(growth: Found, variant: Found) -> str:
    rate, power = growth["rate"], growth["power"]
    if rate is None and variant["num_diverged"]:
        return "they diverge before its growth can be followed"
    if rate is None or power is None:
        return "their distance is at its level too soon for its growth to be seen"
    if rate <= 0:
        return "their distance does not grow"
    if growth["better"] == "power":
        return (
            f"their distance then grows about as step to the power of {number(power)}, which fits "
            "better than an exponential"
        )
    better = ", which fits better than a power" if growth["better"] else ""
    doubles = number(math.log(2) / rate)
    return (
        f"their distance then grows about exponentially and doubles every {doubles} steps{better}"
    )


def _barriers(found: Found) -> list[str]:
    having = [v for v in found["variants"] if part(v, "barrier", "mean") is not None]
    if not having:
        return []
    listed = ", ".join(f"{v['name']} {number(100 * v['barrier']['mean'])}" for v in having)
    return [
        "Error barrier on the line between two replicas' weights, in percentage points above the "
        f"mean of its ends: {listed}."
    ]


def _paths(found: Found) -> list[str]:
    """Do replicas that differ in what tools do alone go other ways through the training map?"""
    having = [v for v in found["variants"] if part(v, "paths", "dissimilarity")]
    tools = [v for v in having if v["varied"] and set(v["varied"]) <= {*IMPLEMENTATION}]
    named = [variant for variant in tools if variant["name"] == IMPL] or tools
    chance = [v for v in having if set(v["varied"]) & {*ALGORITHMIC}]
    likely = {v["name"]: v for v in chance}
    other = likely.get(ALGO) or likely.get(found["whole"]) or (chance[0] if chance else None)
    return [_path(variant, other) for variant in named]


def _path(variant: Found, other: Found | None) -> str:
    paths = variant["paths"]
    if paths["distinct"] == 1:
        went = "take one path through the training map: the states in one order"
    else:
        went = f"take {paths['distinct']} different paths through the training map"
    said = (
        f"Replicas that differ in {variant['name']} noise alone {went}; dissimilarity "
        f"{interval(paths['dissimilarity']['discrete'])}"
    )
    if other:
        found = interval(other["paths"]["dissimilarity"]["discrete"])
        said += f", beside {found} with {other['name']}"
    if paths["detour_rate"] is not None:
        time, unit = paths["detour_time"], paths["convergence"]["unit"]
        said += (
            f"; {percent(paths['detour_rate'])} of them pass a detour state, and they are in such "
            f"states for {number(time['mean'], 3)} {unit}s on average"
        )
        if time["sd"] is not None:
            said += f" (SD {interval(time['sd'])})"
    return said + "."


def _diverged(found: Found) -> list[str]:
    lost = [v for v in found["variants"] if v["num_diverged"]]
    if not lost:
        return []
    listed = ", ".join(f"{v['num_diverged']} of {v['replicas']} of {v['name']}" for v in lost)
    return [f"Replicas that diverged and are left out of the measures: {listed}."]


_REACH = "An interval that meets the edge of the axes goes on beyond it."


def noise_budget(found: Found) -> str:
    """Of the shares by source."""
    whole = found["whole"]
    return (
        f"Each source alone, and each set, beside {whole} (line at 1): variance of accuracy, churn "
        "and distance of unit weight vectors, with 95 % intervals over replicas; CONTROL stands "
        f"where its replicas put it, at 0 if they are one. The share of {whole} is 1 by "
        "definition. Training is chaotic, so sources are not additive: each alone may bring about "
        "nearly all there is, and shares do not sum to 1. Shares beyond 1, where there are large "
        f"ones, are on a logarithmic axis. {_REACH}"
    )


def churn_accuracy(found: Found) -> str:
    """Of churn against the spread of accuracy."""
    return (
        "A point for each variant: how far the top-line accuracies of its replicas spread, and on "
        "how many test examples two of them disagree, each with its 95 % interval. Replicas of "
        f"nearly equal accuracy may still disagree on many examples. {_REACH}"
    )


def class_spread(found: Found) -> str:
    """Of the classes."""
    return (
        "Standard deviation over replicas of each class's accuracy, over that of top-line accuracy "
        "(paper B, section 3). A class has fewer test examples than the whole, so that some excess "
        f"is to be expected: of {_num_tested(found)} classes of equal size that err "
        f"independently, a ratio near {number(math.sqrt(_num_tested(found)))}."
    )


def _num_tested(found: Found) -> int:
    """Classes that a test example has; the network may tell more apart."""
    return max(len(variant["classes"] or ()) for variant in found["variants"])


def group_spread(found: Found) -> str:
    """Of the subgroups."""
    return (
        "Standard deviation over replicas of accuracy, of the false positive rate FP/(FP + TN) and "
        "of the false negative rate FN/(FN + TP) of each subgroup (number of test examples in "
        "brackets), over that of the same rate of all test examples (line at 1). Small groups "
        "spread more by their size alone."
    )


def divergence(found: Found) -> str:
    """Of the distances over training."""
    return (
        "Above, distance of each replica's weights to those of replica 0, which all variants "
        "share, on a logarithmic axis (thin: replicas, bold: median); on the line at 0 they are "
        "alike to the bit. A straight line is exponential growth. In the middle, how steep those "
        "lines are: the local growth exponent, median over replicas. Below, the share of test "
        "examples on which the two disagree. Curves of replicas that diverged end there."
    )


def barriers(found: Found) -> str:
    """Of the errors along lines."""
    return (
        "Error of the networks on the straight line between the weights of two replicas (thin: "
        "pairs, bold: mean), and the straight line between its ends (dotted); the title has the "
        "barrier, the maximum over the mean of the ends, averaged over at most 3 pairs. Running "
        "statistics of batch norm are those of the line, not taken anew, which raises barriers "
        "where there are any. Without a barrier "
        "the two lie in one linearly connected basin (Frankle et al., arXiv 1912.05671)."
    )


def paths_by_source(found: Found) -> str:
    """Of the raster."""
    return (
        "Each row is a replica, coloured by its state in the training map over the steps of "
        f"training; the replicas of a variant stand together. The map is {_map(found)}."
    )


def dissimilarity_by_source(found: Found) -> str:
    """Of the ways through the map."""
    return (
        "Mean dissimilarity over pairs of a variant's replicas (0: the same shares of time in all "
        "states, 1: no state in common), replicas that pass a detour state, and the standard "
        "deviations of the time spent in such states and of the time of convergence of those that "
        "converge, with 95 % intervals over replicas where they are defined. "
        f"The map is {_map(found)}. {_REACH}"
    )


def _map(found: Found) -> str:
    run = part(found, "map", "run")
    return "fitted to these replicas" if run in (None, NOISE_MAP) else f"that of {run}"

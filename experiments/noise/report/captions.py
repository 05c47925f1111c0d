"""The captions of the figures of a study of noise."""

import math

from seedmap.experiments.noise.report.figure_classes import MOST_BARS
from seedmap.experiments.noise.report.headlines import num_tested
from seedmap.experiments.noise.results import StudySummary
from seedmap.experiments.runs.folder import NOISE_MAP
from seedmap.text import number

_REACH = "An interval that meets the edge of the axes extends beyond it."


def components(summary: StudySummary) -> str:
    """Returns the caption of the shares of variance."""
    return (
        f"Share of the variance over all trainings that is left to a source once all else is held "
        f"(total-effect index, Homma and Saltelli 1996), from {summary.roots} roots with "
        f"{summary.replicas} replicas a source and root, with 95 % intervals over roots. Root: "
        f"what {summary.whole} leaves, such as the examples. An interval that leaves nearly "
        "everything open is named as not determined."
    )


def commitment(summary: StudySummary) -> str:
    """Returns the caption of the commitment curve."""
    return (
        "Share of the variance over all trainings that is fixed once all but one source is given "
        "and the first steps of that one too (replicas share them), with 95 % intervals over "
        f"{summary.roots} roots; rounding is ulp, a unit in the last place at the step. Beside it, "
        "what the test loss at the step tells of the convergence time: the squared correlation of "
        "their logarithms. Points whose interval leaves nearly everything open are not drawn; the "
        "table names them as not determined. Hollow points, in brackets in the table, have none: "
        "replicas differ in fewer than three roots."
    )


def survival(summary: StudySummary) -> str:
    """Returns the caption of the convergence curves."""
    roots = f"thin: each of {summary.roots} roots, bold: all" if summary.roots > 1 else "one root"
    return (
        "Share of replicas that have not converged over time (Kaplan and Meier 1958), by source "
        f"({roots}){_groups(summary)}; those that never converge are censored at their last "
        "record. Bands are 95 % "
        "intervals that take replicas for independent; the intervals and the log-rank test of the "
        "table are over roots. The restricted mean counts a run that never converges with the time "
        "of the last record."
    )


def _groups(summary: StudySummary) -> str:
    """What the panels after those of the sources show."""
    panels = []
    if any(group.root is not None for group in summary.groups):
        panels.append("by root, all sources together")
    if any(group.state is not None for group in summary.groups):
        panels.append("by branch (solid: those that visit it, dashed: those that pass it by)")
    return "".join(f", {panel}" for panel in panels)


def noise_budget(summary: StudySummary) -> str:
    """Returns the caption of the shares by source."""
    most = summary.whole
    return (
        f"Each source alone, and each set, relative to {most} (line at 1): variance of accuracy, "
        f"churn and distance of unit weight vectors, with 95 % intervals over {_units(summary)}; "
        "CONTROL is measured too: it is 0 if its replicas are identical. The share of "
        f"{most} is 1 by definition. Sources act together, so shares need not sum to 1. Beyond 1, "
        f"large shares are on a logarithmic axis. {_REACH}"
    )


def share_over_steps(summary: StudySummary) -> str:
    """Returns the caption of the shares over training."""
    ends = ", with 95 % intervals over roots" if summary.roots > 1 else ""
    return (
        f"Disagreement with replica 0, and the distance of weights to it, of each source over that "
        f"of {summary.whole} (line at 1), record by record{ends}. A source does all that all "
        "sources do from the step of the table on where every interval holds 1 and none reaches "
        "below a half. Where an interval says nothing, or all replicas agree, nothing is drawn."
    )


def churn_accuracy(summary: StudySummary) -> str:
    """Returns the caption of churn against the spread of accuracy."""
    return (
        "A point for each variant: the standard deviation of its replicas' top-line accuracies, "
        "and the share of test examples on which two of them disagree, each with its 95 % "
        "interval; a variant of which one is not determined is not drawn. Replicas of nearly equal "
        f"accuracy may still disagree on many examples. {_REACH}"
    )


def class_spread(summary: StudySummary) -> str:
    """Returns the caption of the spread of classes."""
    bars = num_tested(summary) <= MOST_BARS
    ends = ", with 95 % intervals as far as the axis goes" if bars else ""
    return (
        "Standard deviation over replicas of each class's accuracy, over that of top-line accuracy "
        f"(Zhuang et al., 2022){ends}. A class has fewer test examples than the whole, so that "
        f"some excess is to be expected: of {num_tested(summary)} classes of equal size that err "
        f"independently, a ratio near {number(math.sqrt(num_tested(summary)))} (dashes)."
    )


def group_spread(summary: StudySummary) -> str:
    """Returns the caption of the spread of subgroups."""
    return (
        "Standard deviation over replicas of accuracy, of the false positive rate FP/(FP + TN) and "
        "of the false negative rate FN/(FN + TP) of each subgroup (number of test examples in "
        "brackets), over that of the same rate of all test examples (line at 1), with 95 % "
        "intervals as far as the axes go. Small groups spread more by their size alone."
    )


def divergence(summary: StudySummary) -> str:
    """Returns the caption of the distances over training."""
    return (
        "Above, distance of each replica's weights to those of replica 0, which all variants "
        "share, on a logarithmic axis (thin: replicas, bold: median); on the line at 0 they are "
        "identical to the bit. A straight line is exponential growth. In the middle, the slope of "
        "those lines, the local growth exponent, median over replicas. Below, the share of test "
        "examples on which the two disagree. Curves of replicas that diverged end there."
        f"{_first_root(summary)}"
    )


def barriers(summary: StudySummary) -> str:
    """Returns the caption of the errors along lines."""
    return (
        "Error of the networks on the straight line between the weights of two replicas (thin: "
        "pairs, bold: mean), and the straight line between its ends (dotted); the title has the "
        "barrier, the maximum over the mean of the ends, averaged over at most 3 pairs. Running "
        "statistics of batch norm are interpolated as well, not computed anew, which raises "
        "barriers. Without a barrier the two lie in one linearly connected basin (Frankle et al., "
        "arXiv 1912.05671)."
    )


def paths_by_source(summary: StudySummary) -> str:
    """Returns the caption of the state raster."""
    return (
        "Each row is a replica, coloured by its state in the training map over the steps of "
        f"training; the replicas of a variant are adjacent. The map is {_map(summary)}."
        f"{_first_root(summary)}"
    )


def dissimilarity_by_source(summary: StudySummary) -> str:
    """Returns the caption of the paths through the map."""
    return (
        "Mean dissimilarity over pairs of a variant's replicas (0: the same shares of time in all "
        "states, 1: no state in common), replicas that pass a detour state, and the standard "
        "deviations of the time spent in such states and of the time of convergence of those that "
        f"converge, with 95 % intervals over {_units(summary)} where they are defined. "
        f"The map is {_map(summary)}. {_REACH}"
    )


def _units(summary: StudySummary) -> str:
    return "roots" if summary.roots > 1 else "replicas"


def _first_root(summary: StudySummary) -> str:
    return " Those of the first root are drawn." if summary.roots > 1 else ""


def _map(summary: StudySummary) -> str:
    run = summary.map and summary.map.run
    return "fitted to these replicas" if run in (None, NOISE_MAP) else f"that of {run}"

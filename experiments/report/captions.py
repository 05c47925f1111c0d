"""The captions of the report's figures, written from the summary of a run."""

from seedmap.experiments.runs.findings_summary import Resolution
from seedmap.experiments.runs.summary import RunSummary
from seedmap.hmm.training_map.drawn import states_of_branches
from seedmap.hmm.training_map.regression import READABLE_PVALUE
from seedmap.text import cell, listed, p_equals


def measure(summary: RunSummary) -> str:
    """Returns a coefficient's unit: `epochs later than the mean run`, or another outcome."""
    outcome = summary.regression.outcome
    if outcome != "convergence":
        return f"{outcome} over the mean run"
    return f"{summary.convergence.unit}s later than the mean run"


def training_map(summary: RunSummary) -> str:
    """Returns the caption of the training map."""
    if summary.resolution is not None:
        return f"{_CIRCLES} {_branches(summary)}"
    forks = "Runs fork" if summary.forking else "All runs meet the states in one order"
    detours = "no state is a detour"
    if summary.detours:
        states = listed(summary.detours, "state")
        detours = f"{states} (dashed) can be avoided, and time there is associated with delay"
        if not _is_readable(summary):
            detours += (
                f", which is not reliable ({p_equals(summary.regression.f_pvalue)}, Hu et "
                "al. (2023) ask for p < 0.001)"
            )
    return f"{_CIRCLES} {forks}; {detours}."


_CIRCLES = (
    "Circles are states, their area the time spent there; arrows are transitions, wider the more "
    "runs take them, with the metrics that matter most."
)


def _branches(summary: RunSummary) -> str:
    """What the tests of branches found, and where they are."""
    size = summary.num_states_drawn
    branches, detours = states_of_branches(summary.branches, size)
    sentences = [summary.headline[0].upper() + summary.headline[1:] + "."]
    if size != summary.num_states:
        sentences.append(
            f"Drawn with {size} states, as the branch is in no map of {summary.num_states}, the "
            "number that was chosen."
        )
    if branches:
        sentences.append(f"Outlined: {listed(branches, 'state')}, which some runs pass by.")
    if detours:
        sentences.append(f"Dashed: {listed(detours, 'state')}, where runs are delayed.")
    return " ".join(sentences)


def state_raster(summary: RunSummary) -> str:
    """Returns the caption of the decoded states."""
    rows = f"Each row is a run, coloured by decoded state; {summary.num_states} states."
    if summary.has_convergence:
        rows = (
            "Each row is a run, coloured by decoded state and sorted by convergence (diamond): "
            f"{summary.num_converged} of {summary.num_seeds} runs converge, through up to "
            f"{summary.num_states} states."
        )
    return rows + (
        _PALE if summary.stability and summary.resolution and summary.stability.refits else ""
    )


_PALE = " The paler a record, the fewer refits to resampled runs agree with its state."


def survival(summary: RunSummary) -> str:
    """Returns the caption of the survival curves."""
    findings = summary.findings.survival
    return " ".join(findings.sentences) if findings else ""


def published_map(summary: RunSummary) -> str:
    """Returns the caption of the map by the published method."""
    if not summary.published:
        return ""
    return " ".join(
        ("The same runs by the method of Hu et al. (2023).", *summary.published.sentences)
    )


def path_or_speed(summary: RunSummary) -> str:
    """Returns the caption of the figure of path or speed."""
    findings = summary.findings.path_or_speed
    return " ".join(findings.sentences) if findings else ""


def moves_first(summary: RunSummary) -> str:
    """Returns the caption of the figure of what moves first."""
    findings = summary.findings.moves_first
    return " ".join(findings.sentences) if findings else ""


def losses(summary: RunSummary) -> str:
    """Returns the caption of the example runs' losses."""
    if not summary.has_convergence:
        return "Curves of a few runs; a change of colour is a change of state."
    return (
        "Loss and accuracy of the fastest, the median and the slowest run to converge, and of one "
        "that never does (or diverged, if all of these did) if there is such a run; a change of "
        "colour is a change of state."
    )


def dissimilarity(summary: RunSummary) -> str:
    """Returns the caption of the matrix of dissimilarities."""
    return (
        "Dissimilarity of each pair of runs in their shares of time over the states, similar runs "
        f"adjacent; the mean over pairs is {cell(summary.dissimilarity.discrete)} "
        "(0: equal, 1: no state in common)."
    )


def convergence(summary: RunSummary) -> str:
    """Returns the caption of the histogram of convergence times."""
    times = summary.convergence
    return (
        f"Times at which the runs first have {criterion(summary)}, on average at {times.unit} "
        f"{cell(times.mean)}."
    )


def criterion(summary: RunSummary) -> str:
    """Returns when a run has converged, in words."""
    times = summary.convergence
    if times.criterion:
        return times.criterion
    return f"evaluation accuracy above {times.threshold:.4g}"  # of a map made before it was named


def model_selection(summary: RunSummary) -> str:
    """Returns the caption of the criteria by number of states; it names the one that chose."""
    if summary.resolution is not None:
        return _sizes(summary, summary.resolution)
    criterion = "a held-out criterion"
    if summary.stability is not None and summary.stability.priors:
        criterion = summary.stability.priors[0].criterion.replace("_", " ")
    return (
        "Held-out criteria and log-likelihoods for each number of states (line: best restart, "
        "chosen by penalised training likelihood alone; dots: all restarts; bars: mean and "
        f"standard deviation); the band marks the {summary.num_states} states "
        f"chosen, by {criterion.replace('bic', 'BIC').replace('aic', 'AIC')}. Where training and "
        "held-out likelihood diverge, the model overfits."
    )


def _sizes(summary: RunSummary, resolution: Resolution) -> str:
    return (
        "BIC and the agreement of fits to halves of the runs, for each number of states; the band "
        f"marks the {summary.num_states} chosen: the lowest BIC of those that halves agree on. The "
        f"number is a resolution: {resolution.half} where records count half as much, "
        f"{resolution.double} where twice."
    )


def held_out(summary: RunSummary) -> str:
    """Returns the caption of the held-out runs."""
    return (
        "Log-likelihood of each held-out run under the chosen model. A run far below the others "
        "decides the selection nearly alone."
    )


def coefficients(summary: RunSummary) -> str:
    """Returns the caption of the regression; it says whether coefficients may be read."""
    regression = summary.regression
    if not regression.num_runs:
        return "No run converged, so there is no time of convergence to explain."
    explained = "an undefined part" if regression.r2 is None else f"{100 * regression.r2:.1f} %"
    p = p_equals(regression.f_pvalue)
    readable = f"which holds here ({p})"
    if not _is_readable(summary):
        readable = f"which does not hold here ({p}): read neither"
    return (
        f"Change associated with 10 % more of a run's time in a state, in {measure(summary)}: a "
        "tenth of the regression's coefficient, with its interval. It is a linear association "
        f"within the range of these runs; the shares of time explain {explained} of the variance "
        "in sample. "
        + ("" if summary.resolution else "Detours are defined by the sign alone. ")
        + f"Coefficients are to be read only where p < 0.001 (Hu et al., 2023), {readable}."
    )


def _is_readable(summary: RunSummary) -> bool:
    """Tells whether coefficients may be read."""
    p = summary.regression.f_pvalue
    return p is not None and p < READABLE_PVALUE

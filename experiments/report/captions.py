"""The captions of the report's figures, written from the summary."""

from collections.abc import Mapping, Sequence
from typing import Any

from seedmap.hmm.training_map.regression import READABLE_PVALUE


def part(summary: Mapping, *keys: str) -> Any:
    """A nested value of the summary; None where a part is null or missing."""
    value: Any = summary
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def text(value: Any) -> str:
    """A value as text: numbers to four digits or whole, null as a dash, truth as yes or no."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value)) or "none"
    return str(value)


def threshold(summary: Mapping) -> str:
    """The evaluation accuracy of convergence."""
    return text(part(summary, "convergence", "threshold"))


def measure(summary: Mapping) -> str:
    """What a coefficient is in: `epochs later than the mean run`, or another outcome."""
    outcome = part(summary, "regression", "outcome") or "convergence"
    if outcome != "convergence":
        return f"{outcome} over the mean run"
    return f"{text(part(summary, 'convergence', 'unit'))}s later than the mean run"


def _states(states: Sequence[int]) -> str:
    """`state 2`, or `states 2 and 4`."""
    names = [str(state) for state in states]
    listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"state{'s' if len(names) > 1 else ''} {listed}"


def training_map(summary: Mapping) -> str:
    """Of the map."""
    forks = "Runs fork" if part(summary, "forking") else "All runs meet the states in one order"
    detours = part(summary, "detours")
    found = "no state is a detour"
    if detours:
        found = f"{_states(detours)} (dashed) can be avoided, and time there goes with delay"
        if not _readable(summary):
            found += f", which is not to be relied on ({_p(summary)}, paper A asks for p < 0.001)"
    return (
        "Circles are states, their area the time spent there; arrows are transitions, wider the "
        f"more runs take them, with the metrics that matter most. {forks}; {found}."
    )


def state_raster(summary: Mapping) -> str:
    """Of the decoded states."""
    return (
        "Each row is a run, coloured by decoded state and sorted by convergence (diamond): "
        f"{text(part(summary, 'num_converged'))} of {text(part(summary, 'num_seeds'))} runs "
        f"converge, through up to {text(part(summary, 'num_states'))} states."
    )


def losses(summary: Mapping) -> str:
    """Of the example runs."""
    return (
        "Loss and accuracy of the fastest, the median and the slowest run to converge, and of one "
        "that never does (or diverged, if all of these did) if there is such a run; a change of "
        "colour is a change of state."
    )


def dissimilarity(summary: Mapping) -> str:
    """Of the matrix of dissimilarities."""
    return (
        "How differently each pair of runs spends its time over the states, similar runs side by "
        f"side; the mean over pairs is {text(part(summary, 'dissimilarity', 'discrete'))} "
        "(0: alike, 1: no state in common)."
    )


def convergence(summary: Mapping) -> str:
    """Of the histogram of convergence times."""
    return (
        f"When the runs first exceed an evaluation accuracy of {threshold(summary)}, on average "
        f"at {text(part(summary, 'convergence', 'unit'))} "
        f"{text(part(summary, 'convergence', 'mean'))}."
    )


def model_selection(summary: Mapping) -> str:
    """Of the criteria over the numbers of states; it names the one that chose."""
    priors = part(summary, "stability", "priors") or [{}]
    criterion = str(priors[0].get("criterion") or "a held-out criterion").replace("_", " ")
    return (
        "Held-out criteria and log-likelihoods for each number of states (line: best restart, "
        "chosen by penalised training likelihood alone; dots: all restarts; bars: mean and "
        f"standard deviation); the band marks the {text(part(summary, 'num_states'))} states "
        f"chosen, by {criterion.replace('bic', 'BIC').replace('aic', 'AIC')}. Where training and "
        "held-out likelihood part, the model overfits."
    )


def held_out(summary: Mapping) -> str:
    """Of the held-out runs."""
    return (
        "Log-likelihood of each held-out run under the chosen model. A run far below the others "
        "decides the selection nearly alone."
    )


def coefficients(summary: Mapping) -> str:
    """Of the regression; it says whether coefficients may be read."""
    if not part(summary, "regression", "num_runs"):
        return "No run converged, so there is no time of convergence to explain."
    explained = _percent(part(summary, "regression", "r2"))
    readable = f"which holds here ({_p(summary)})"
    if not _readable(summary):
        readable = f"which does not hold here ({_p(summary)}): read neither"
    return (
        f"What 10 % more of its time in a state goes with, in {measure(summary)}: a tenth of the "
        "regression's coefficient, with its interval. It is a linear association within the range "
        f"of these runs; the shares of time explain {explained} of the variance in sample. Detours "
        "rest on the sign alone. Coefficients, and so detours, are to be read only where p < 0.001 "
        f"(paper A), {readable}."
    )


def _readable(summary: Mapping) -> bool:
    """Whether coefficients may be read."""
    p = part(summary, "regression", "f_pvalue")
    return p is not None and p < READABLE_PVALUE


def _p(summary: Mapping) -> str:
    p = part(summary, "regression", "f_pvalue")
    return "p is undefined" if p is None else f"p = {p:.2g}"


def _percent(share: float | None) -> str:
    return "an undefined part" if share is None else f"{100 * share:.1f} %"

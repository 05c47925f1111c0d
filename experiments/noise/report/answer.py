"""The answer of a study of noise on its first screen: which sources matter, how much, how sure.

The sentences are of the first measure that tells sources apart; a share whose interval leaves
nearly everything open is not given as a number.
"""

from seedmap.experiments.noise.components import CONVERGENCE, ROOT
from seedmap.experiments.noise.measures.components import SourceComponent
from seedmap.experiments.noise.results import StudySummary
from seedmap.text import NOT_DETERMINED, number, whole_percent

MATTERS = 0.1  # share above which a source is said to matter
MEASURES = {
    CONVERGENCE: "the time of convergence (its logarithm)",
    "accuracy": "test accuracy",
    "loss": "test loss",
    "churn": "predictions (churn)",
    "l2_distance": "weights (distance at unit length)",
    "path": "the path through the map",
}


def measure_name(measure: str) -> str:
    """Returns a measure in words."""
    return MEASURES.get(measure) or measure.replace("_", " ")


def is_determined(line: SourceComponent) -> bool:
    """Tells whether a share's interval leaves out next to nothing, or nearly all variance."""
    return line.share is not None and says_something(line.low, line.high)


def says_something(low: float | None, high: float | None) -> bool:
    """Tells whether the ends of a share's interval leave out next to nothing, or nearly all."""
    return low is not None and high is not None and (low >= MATTERS or high <= 1 - MATTERS)


def share_text(line: SourceComponent) -> str:
    """Returns a share in per cent with its interval, or that it is not determined."""
    return percent_or_not(line.share, line.low, line.high)


def fixed_text(share: float | None, low: float | None, high: float | None) -> str:
    """Returns what is fixed by a step, in brackets where there is no interval."""
    if is_bare(share, low, high):
        return f"({_percent(share)} %)"
    return percent_or_not(share, low, high)


def percent_or_not(share: float | None, low: float | None, high: float | None) -> str:
    """Returns a share in per cent with its interval, or that it is not determined."""
    if share is None or not says_something(low, high):
        return NOT_DETERMINED
    value, low, high = (_percent(end) for end in (share, low, high))
    return f"{value} %" if low == high else f"{value} % [{low}, {high}]"


def is_bare(share: float | None, low: float | None, high: float | None) -> bool:
    """Tells whether there is a share but no interval: replicas differ in too few roots for one."""
    return share is not None and low is None and high is None


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "<0.1"
    return f"{100 * share:.0f}" if share >= 0.1 or share == 0 else number(100 * share, 2)


def lines_of(summary: StudySummary, measure: str) -> list[SourceComponent]:
    """Returns the components of one measure."""
    return [line for line in summary.components if line.measure == measure]


def compared_measures(summary: StudySummary) -> list[str]:
    """Returns the measures of which at least one share is determined and above 0, in order."""
    having = [line.measure for line in summary.components if is_determined(line) and line.share > 0]
    return list(dict.fromkeys(having))


def left_out(summary: StudySummary) -> list[str]:
    """Says, in one sentence, which measures cannot be compared."""
    measures = dict.fromkeys(line.measure for line in summary.components)
    compared = compared_measures(summary)
    missing = [measure_name(name) for name in measures if name not in compared]
    if not missing:
        return []
    return [
        f"Left out, as too little of it varies, or is known, to compare sources: "
        f"{', '.join(missing)}."
    ]


def answer(summary: StudySummary) -> list[str]:
    """Returns three sentences: which sources matter here, how much, how sure."""
    if summary.roots == 1:
        return [
            "All that follows is of one root: it says what happens around this training, and not "
            "what a source does in general, for which there is --roots 5."
        ]
    measures = compared_measures(summary)
    if not measures:
        return [
            f"These {summary.roots} roots do not tell which sources matter: no share is "
            "determined. More --roots or --replicas would."
        ]
    lines = lines_of(summary, measures[0])
    return [_which(measures[0], lines), _how_much(lines), _how_sure(summary, lines)]


def _which(measure: str, lines: list[SourceComponent]) -> str:
    known = [line for line in lines if is_determined(line) and line.source != ROOT]
    matter = [line.source for line in known if line.low >= MATTERS]
    little = [line.source for line in known if line.high < MATTERS]
    open_ = [line.source for line in lines if line.source not in (*matter, *little, ROOT)]
    edge = whole_percent(MATTERS)
    clauses = [
        f"{_list(names)} {says}"
        for names, says in (
            (matter, f"over {edge} of the variance"),
            (little, f"under {edge}"),
            (open_, f"not known to be over or under {edge}"),
        )
        if names
    ]
    return f"Sources that matter for {measure_name(measure)}, all else held: {'; '.join(clauses)}."


def _list(names: list[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]


def _how_much(lines: list[SourceComponent]) -> str:
    texts = [f"{line.source} {share_text(line)}" for line in lines]
    return (
        f"Share of the variance over all trainings, with 95 % intervals: {'; '.join(texts)}. "
        "Shares of several sources need not sum to 100 %: sources act together."
    )


def _how_sure(summary: StudySummary, lines: list[SourceComponent]) -> str:
    known = sum(map(is_determined, lines))
    open_ = ", the others need more --roots" if known < len(lines) else ""
    control = {True: "exactly zero", False: "not zero", None: "not known"}[summary.control.exact]
    return (
        f"This rests on {summary.roots} roots with {summary.replicas} replicas a source; "
        f"{known} of {len(lines)} shares are determined{open_}; CONTROL is {control}."
    )

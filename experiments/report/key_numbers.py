"""The numbers that a run's page shows under its map."""

from seedmap.experiments.report import captions
from seedmap.experiments.runs.summary import RunSummary
from seedmap.text import UNDEFINED, explained, fixed, mean_and_sd, of, p_equals, whole_percent


def key_numbers(summary: RunSummary) -> list[tuple[str, str, str]]:
    """Returns label, value and what stands beside it, of each.

    Five; of convergence nothing where it is not recorded.
    """
    numbers = [_convergence(summary)] if summary.has_convergence else []
    numbers += [_states(summary), _branches(summary)]
    numbers += [] if summary.explains_nothing else [_explained(summary)]
    return [*numbers, _speed(summary)]


def _convergence(summary: RunSummary) -> tuple[str, str, str]:
    times = summary.convergence
    note = captions.criterion(summary)
    if times.mean is not None:
        note = f"at {times.unit} {mean_and_sd(times.mean, times.std)}; {note}"
    return "runs that converge", of(summary.num_converged, summary.num_seeds), note


def _states(summary: RunSummary) -> tuple[str, str, str]:
    note = f"{len(summary.transitions)} transitions"
    if summary.resolution is not None:
        half, double = summary.resolution.half, summary.resolution.double
        note += f"; {half} where records count half, {double} where double"
    return "states", str(summary.num_states), note


def _branches(summary: RunSummary) -> tuple[str, str, str]:
    claim, _, why = summary.headline.partition(" (")
    detours = summary.detours_drawn
    note = why.rstrip(")") or (f"detours: {', '.join(map(str, detours))}" if detours else "")
    return "forks and branches", claim, note


def _explained(summary: RunSummary) -> tuple[str, str, str]:
    """One threshold of one metric first: a bag of states that tells no more than it says little."""
    regression, alone = summary.regression, summary.findings.single_threshold
    bag = f"left-out R² {fixed(regression.leave_one_out_r2, undefined=UNDEFINED)}"
    of_outcome = f"on {regression.outcome}, {p_equals(regression.f_pvalue)}"
    leak = summary.findings.leak
    first = "" if leak is None else f"; the first record alone {explained(leak.scaled)}"
    if alone is None:
        return "bag of states", bag, f"{of_outcome}{first}"
    label = f"one threshold of {alone.metric} alone"
    return label, f"R² {fixed(alone.r2)}", f"the bag of states {bag} {of_outcome}{first}"


def _speed(summary: RunSummary) -> tuple[str, str, str]:
    findings = summary.findings.path_or_speed
    if findings is None:
        index = fixed(summary.dissimilarity.index, undefined=UNDEFINED)
        return "dissimilarity of runs", index, "of indices; 0 is equal"
    shares = findings.found
    ends = f"95 % interval {100 * shares.low:.0f} to {100 * shares.high:.0f} %"
    return "difference that is speed, not path", whole_percent(shares.timing), ends

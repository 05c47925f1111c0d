"""What survival, path or speed, and what moves first say, in three sentences each."""

from collections.abc import Sequence

import numpy as np

from seedmap.hmm.training_map.moves_first import MovesFirst
from seedmap.hmm.training_map.path_or_speed import PathOrSpeed
from seedmap.hmm.training_map.survival import StateHazard, SurvivalCurve
from seedmap.text import p_equals, whole_percent

LEVEL = 0.05
MANY_EVENTS = 1.0
"""Convergences out of a state, so that its hazard is worth a sentence."""


def speed_sentences(found: PathOrSpeed) -> tuple[str, str, str]:
    """Returns what differs between runs, what that rests on, and the test."""
    main, other = ("speed", "path") if found.timing >= 0.5 else ("path", "speed")
    share = max(found.timing, found.place)
    sure = "" if found.low > 0.5 or found.high < 0.5 else ", though the interval holds both"
    test = (
        "that is more than differences in random directions would give"
        if found.pvalue <= LEVEL
        else "differences in random directions would give as much"
    )
    return (
        f"Runs differ more in {main} than in {other}: {whole_percent(share)} of the difference "
        f"between two runs at the same time is {'timing' if main == 'speed' else 'place'}{sure}.",
        f"When clocks are aligned {whole_percent(found.aligned_away)} of the difference goes away, "
        f"where {whole_percent(found.by_chance)} would by chance; timing is "
        f"{whole_percent(found.timing)} (95 % interval {whole_percent(found.low)} to "
        f"{whole_percent(found.high)}, {found.runs} runs).",
        f"As to timing, {test} ({p_equals(found.pvalue)}).",
    )


def first_sentences(found: MovesFirst, event: str, unit: str) -> tuple[str, ...]:
    """Returns what turns first before the event, what next, and what does not turn.

    Args:
        found: the order.
        event: what leads are counted to, such as "convergence".
        unit: of the leads, such as "step".
    """
    if not found.turns:
        return (f"No metric turns before {event} in most of the {found.runs} runs.",)
    first = found.turns[0]
    sentences = [f"{first.metric} turns first, {_lead(first, event, unit)}."]
    if len(found.turns) > 1:
        second = found.turns[1]
        separated = first.before_next is not None and first.before_next <= LEVEL
        how = "next" if separated else "and is not told apart from it"
        sentences.append(
            f"{second.metric} turns {how}, {_lead(second, event, unit)} "
            f"({p_equals(first.before_next)})."
        )
    if found.steady:
        sentences.append(f"Not turning in most runs: {', '.join(found.steady)}.")
    return tuple(sentences)


def _lead(turn, event, unit):
    side = "before" if turn.lead >= 0 else "after"
    ends = "without interval" if turn.low is None else f"{turn.low:.3g} to {turn.high:.3g}"
    return f"{abs(turn.lead):.3g} {unit}s {side} {event} (95 % interval of the median {ends})"


def survival_sentences(
    curve: SurvivalCurve, hazards: Sequence[StateHazard], unit: str
) -> tuple[str, ...]:
    """Returns who converged by when, from which states, and from which none does.

    Args:
        curve: of all runs.
        hazards: by filtered state.
        unit: of the curve's times, such as "step".
    """
    if curve.num_converged == 0:
        return (f"None of the {curve.num_runs} runs converged.",)
    half = np.flatnonzero(curve.survival <= 0.5)
    when = f"half of them by {unit} {curve.times[half[0]]:g}" if len(half) else "less than half"
    sentences = [f"{curve.num_converged} of {curve.num_runs} runs converged, {when}."]
    likely = [(h.hazard, h.state) for h in hazards if h.hazard and h.events >= MANY_EVENTS]
    if likely:
        hazard, state = max(likely, key=lambda pair: pair[0].value)
        sentences.append(
            f"A run in state {state} converges before the next record with probability "
            f"{hazard.value:.2g} (95 % interval {hazard.low:.2g} to "
            f"{hazard.high:.2g}), more than in any other."
        )
    never = [str(h.state) for h in hazards if h.records > 0 and h.events < 0.5]
    if never:
        states = f"state {never[0]}" if len(never) == 1 else f"states {', '.join(never)}"
        sentences.append(f"No run converges out of {states}.")
    return tuple(sentences)

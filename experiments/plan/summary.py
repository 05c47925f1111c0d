"""A plan as text for the terminal."""

from collections.abc import Sequence

from seedmap.experiments.plan.results import Bound, Found, Plan
from seedmap.experiments.plan.search import Bracket, left_open
from seedmap.experiments.report.terminal import aligned, blocks, labelled
from seedmap.results import ABSENT

_SAME_OPERATIONS = "operations are counted from the traced program, and so are the same"
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def summary_text(plan: Plan) -> str:
    """Returns what a plan says: costs, seeds that fit, and the programs."""
    hardware, memory, most = plan.hardware, plan.memory, plan.most_seeds
    what = plan.experiment or "a task"
    several = f"{hardware.devices} x " if hardware.devices > 1 else ""
    seconds = plan.compile_seconds.values()
    rows = {
        "Compiled for": f"{several}{hardware.chip}; not run on it",
        "Training": f"{what}, {most.asked} seeds, {plan.steps} steps, {plan.records} records",
        "Seeds that fit": seeds_that_fit(plan),
        "Memory a device": (
            f"{gib(memory.total)} of {gib(hardware.memory)} with {memory.seeds} seeds: state "
            f"{gib(memory.state)}, data {gib(memory.data)}, temporaries "
            f"{gib(memory.temporaries)}, results {gib(memory.outputs)}, program {gib(memory.code)}"
            f", waiting seeds {gib(memory.other_groups)}"
        ),
        "Compile": (
            f"{sum(each.processor for each in seconds):.0f} s of processor time here, "
            f"{sum(each.wall for each in seconds):.0f} s by the clock"
        ),
        "A step": f"{si(plan.operations.step)}FLOP, {si(plan.bytes.step)}B",
        "A record": f"{si(plan.operations.record)}FLOP, {si(plan.bytes.record)}B",
        "The whole run": f"{si(plan.operations.run)}FLOP, {si(plan.bytes.run)}B",
        "Least time": least_time(plan.bound_seconds),
        "Collectives": _counts(plan.collectives),
        "Calls of the host": _counts(plan.callbacks),
        "Custom calls": _counts(plan.custom_calls),
    }
    if hardware.platform == "gpu":
        rows["Determinism"] = determinism(plan)
    table = aligned(
        ("program", "compile s", "FLOP a call", "bytes a call", "temporaries"),
        [
            (
                each.name,
                f"{plan.compile_seconds[each.name].processor:.1f}",
                si(each.operations),
                si(each.bytes),
                gib(each.temporaries),
            )
            for each in plan.programs
        ],
    )
    return blocks(labelled(rows), "", table, "", notes=plan.notes)


def seeds_that_fit(plan: Plan) -> str:
    """Says how many seeds fit, and how that was found."""
    most = plan.most_seeds
    tried = ", ".join(str(each.seeds) for each in most.tried)
    fit = "fit" if most.at_once else "do not fit"
    turns = "" if most.groups == 1 else f", trained in {most.groups} groups that take turns"
    turns += "" if most.runs == 1 else f", in {most.runs} runs one after the other"
    open_ = bracket(plan)
    per_device = f"{most.per_device}" if open_ is None else bracket_text(open_)
    least = "" if open_ is None else "at least "
    return (
        f"{per_device} a device, {least}{most.on_target} in all (compiled for {tried} a device); "
        f"the {most.asked} asked for {fit} at once{turns}"
    )


def bracket(plan: Plan) -> Bracket | None:
    """Returns where the most seeds that fit a device lies; None where it is known.

    On a CPU no search decides, but a rule.
    """
    hardware = plan.hardware
    if hardware.platform == "cpu":
        return None
    return left_open(plan.most_seeds.tried, hardware.usable)


def bracket_text(bracket: Bracket) -> str:
    """Says between which numbers the most seeds that fit a device lies."""
    below = "" if bracket.refused is None else f", fewer than {bracket.refused}"
    return f"at least {bracket.fits}{below}"


def least_time(bound: Bound) -> str:
    """Says the least time of the whole run, and what it is bound by."""
    if bound.run is None:
        return "not known"
    other = {"products": bound.memory, "memory": bound.products}[bound.binds]
    other_bound = "" if other is None else f" (the other: {other:.3g} s)"
    return f"{bound.run:.3g} s, by the peak of {bound.binds}, in {bound.precision}{other_bound}"


def _counts(entries: Sequence[Found]) -> str:
    totals: dict[str, int] = {}
    for each in entries:
        totals[each.name] = totals.get(each.name, 0) + each.count
    return ", ".join(f"{name} x{count}" for name, count in totals.items()) or "none"


def determinism(plan: Plan) -> str:
    """Says what deterministic operations change in programs for a GPU."""
    sentences = []
    for each in plan.nondeterministic:
        if each.refused is not None:
            sentences.append(f"{each.program} is refused: {each.refused}")
        elif each.changed:
            changes = [f"{name} {a} -> {b}" for name, (a, b) in each.changed.items()]
            changes.append(" -> ".join(f"{si(size)}B" for size in each.bytes) + " a call")
            if each.operations is not ABSENT:
                changes.append(f"{si(each.operations)}FLOP without and with")
            sentences.append(f"{each.program}: {', '.join(changes)}")
    if not sentences:
        return "the same programs with and without deterministic operations"
    return "; ".join([*sentences, _SAME_OPERATIONS])


def gib(size: float) -> str:
    """Formats bytes of memory in binary units."""
    units = ((30, "GiB"), (20, "MiB"))
    power, unit = next((each for each in units if size >= 2 ** each[0]), (10, "KiB"))
    amount = size / 2**power
    return f"{amount:.0f} {unit}" if amount >= 100 else f"{amount:.3g} {unit}"


def si(amount: float) -> str:
    """Formats an amount with the prefix of its unit, which follows."""
    for size, prefix in _PREFIXES:
        if amount >= size:
            return f"{amount / size:.3g} {prefix}"
    return f"{amount:.3g} "

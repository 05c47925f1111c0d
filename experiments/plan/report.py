"""A plan's folder: `plan.json`, and a page of it, `plan.html`."""

from pathlib import Path

from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.plan.figures import KINDS, plot_memory
from seedmap.experiments.plan.results import Amount, Found, Plan
from seedmap.experiments.plan.summary import (
    bracket,
    determinism,
    gib,
    least_time,
    seeds_that_fit,
    si,
)
from seedmap.experiments.report import html, out_folder, page
from seedmap.experiments.runs import folder as run_folder
from seedmap.results import to_json
from seedmap.text import DASH, number, percent
from seedmap.transaction import transaction

JSON, HTML, FIGURE = "plan.json", "plan.html", "memory"
OWN = out_folder.own_names((JSON, HTML))
_CAPTION = (
    "What the training takes of a device's memory, by kind, on a logarithmic axis; what takes "
    "nothing has no mark. Seeds fit where all of it, the diamond, is left of the dashed line."
)
_BOUND = (
    "The least time that the chip's peaks allow. A training takes longer: how much is not known "
    "before it runs."
)


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raises UserError where a plan may not be written to a folder."""
    out_folder.check_out(folder, JSON, OWN, "a plan")
    if (folder / JSON).exists() and not overwrite:
        raise UserError(
            f"--out: {folder} holds another plan; name another folder, or add --overwrite"
        )


def write_plan(folder: Path, plan: Plan) -> Path:
    """Writes `plan.json`, the figure and `plan.html`; returns its path."""
    drawn = plot_memory(plan)
    with transaction(folder, OWN, "plan") as draft:
        files.write_json(draft / JSON, to_json(plan), indent=1)
        out_folder.save_figures(draft, {FIGURE: drawn})
        first = [
            page.paragraph(f"Compiled for {_devices(plan)}; nothing was run on it."),
            html.key_numbers(_key_numbers(plan)),
            html.figure(FIGURE, drawn, _CAPTION),
            html.notes(plan.notes),
        ]
        title = f"{plan.experiment or 'A task'} on {plan.hardware.target}: a plan"
        made_by = run_folder.command().get("command")
        html.write_page(draft / HTML, title, _parts(plan), first, command=made_by)
    return folder / HTML


def _devices(plan: Plan) -> str:
    hardware = plan.hardware
    return f"{hardware.devices} x {hardware.chip}" if hardware.devices > 1 else hardware.chip


def _key_numbers(plan: Plan) -> list[tuple[str, str, str]]:
    memory, most, bound = plan.memory, plan.most_seeds, plan.bound_seconds
    turns = f"take turns in {most.groups} groups"
    several = turns if most.runs == 1 else f"take {most.runs} runs"
    fit = "fit" if most.at_once else several
    at_once = f"{most.on_target}" if bracket(plan) is None else f"at least {most.on_target}"
    least = "not known" if bound.run is None else f"{number(bound.run)} s"
    seconds = plan.compile_seconds.values()
    return [
        ("seeds at once", at_once, f"{most.per_device} a device; {most.asked} {fit}"),
        (
            "memory of a device",
            gib(memory.total),
            f"of {gib(plan.hardware.memory)}, with {memory.seeds} seeds",
        ),
        ("least time", least, f"by the peak of {bound.binds}" if bound.binds else ""),
        (
            "the whole run",
            f"{si(plan.operations.run)}FLOP",
            f"a device; {plan.steps} steps, {plan.records} records",
        ),
        (
            "compilation",
            f"{sum(each.processor for each in seconds):.0f} s",
            "of processor time, on the machine that planned",
        ),
    ]


def _parts(plan: Plan) -> list[str]:
    return [
        page.titled("Programs", _programs(plan)),
        page.titled("Memory of a device", _memory(plan)),
        page.titled("Seeds that fit", page.paragraph(f"{seeds_that_fit(plan)}."), _tried(plan)),
        page.titled("Cost of training", _costs(plan)),
        page.titled("Least time", page.paragraph(_BOUND), _bound(plan)),
        page.titled("In the programs' text", _found(plan)),
        html.details("Hyperparameters", html.key_values(plan.hyperparameters.items())),
        html.details("The device", html.key_values(html.flatten(to_json(plan.hardware)))),
        page.all_numbers(plan),
    ]


def _programs(plan: Plan) -> str:
    header = ("program", "compile s", "FLOP a call", "bytes a call", "temporaries", "64-bit")
    rows = [
        (
            each.name,
            f"{plan.compile_seconds[each.name].processor:.1f}",
            si(each.operations),
            si(each.bytes),
            gib(each.temporaries),
            str(each.wide),
        )
        for each in plan.programs
    ]
    note = "64-bit: operations on 64-bit floats, in the program's text."
    return html.table(header, rows) + page.paragraph(note)


def _memory(plan: Plan) -> str:
    memory, hardware = plan.memory, plan.hardware
    sizes = [(words, getattr(memory, name)) for name, words in KINDS.items()]
    sizes += [("may be taken", hardware.usable), ("of the device", hardware.memory)]
    rows = [(name, gib(size), _share(size / hardware.memory)) for name, size in sizes]
    return html.table(("what", "size", "of the device's memory"), rows)


def _share(share: float) -> str:
    return "under 0.01 %" if 0 < share < 1e-4 else percent(share)


def _tried(plan: Plan) -> str:
    rows = [
        (
            str(each.seeds),
            DASH if each.bytes is None else gib(each.bytes),
            "fit" if each.fits else "do not fit",
        )
        for each in plan.most_seeds.tried
    ]
    return html.table(("seeds a device, compiled for", "memory", ""), rows)


def _costs(plan: Plan) -> str:
    def row(name: str, unit: str, amount: Amount) -> tuple[str, ...]:
        sizes = (f"{si(size)}{unit}" for size in (amount.step, amount.record, amount.run))
        counted = amount.source if amount.whole else f"{amount.source}; some loops counted once"
        return (name, *sizes, counted)

    header = ("of a device", "a step", "a record", "the whole run", "counted by")
    rows = [row("operations", "FLOP", plan.operations), row("memory traffic", "B", plan.bytes)]
    return html.table(header, rows)


def _bound(plan: Plan) -> str:
    bound, peak = plan.bound_seconds, plan.hardware.peaks.get(plan.bound_seconds.precision)
    bandwidth = plan.hardware.bandwidth
    rows = [
        ("products", _seconds(bound.products), "" if peak is None else f"{si(peak)}FLOP/s"),
        ("memory", _seconds(bound.memory), "" if bandwidth is None else f"{si(bandwidth)}B/s"),
    ]
    table = html.table(("by", "seconds", "peak"), rows)
    return table + page.paragraph(f"The whole run: {least_time(bound)}.")


def _seconds(value: float | None) -> str:
    return "not known" if value is None else number(value)


def _found(plan: Plan) -> str:
    kinds = {
        "collective": plan.collectives,
        "call of the host": plan.callbacks,
        "custom call": plan.custom_calls,
    }
    rows = [_found_row(kind, each) for kind, entries in kinds.items() for each in entries]
    none = [kind for kind, entries in kinds.items() if not entries]
    pieces = [html.table(("what", "name", "program", "times"), rows)]
    if none:
        pieces.append(page.paragraph(f"None of: {', '.join(none)}."))
    if plan.hardware.platform == "gpu":
        pieces.append(page.paragraph(f"With deterministic operations: {determinism(plan)}."))
    return "\n".join(filter(None, pieces))


def _found_row(kind: str, entry: Found) -> tuple[str, ...]:
    return (kind, entry.name, entry.program, str(entry.count))

"""The figure of a plan: the memory that a training takes, beside the device's."""

from matplotlib.figure import Figure

from seedmap.experiments.plan.results import Plan
from seedmap.experiments.plan.summary import gib
from seedmap.hmm.figures.style import GREY, INK, PALE, WIDTH, Drawing, styled

KINDS = {  # fields of `results.Memory` and what a reader calls them
    "state": "state of the seeds",
    "data": "data",
    "outputs": "results",
    "temporaries": "temporaries",
    "code": "program",
    "other_groups": "waiting seeds",
    "total": "in all",
}


@styled
def plot_memory(plan: Plan) -> Figure:
    """Draws the memory of a device by kind, on a logarithmic axis, beside what the device has.

    Args:
        plan: of a run.

    Returns:
        The figure.
    """
    figure = Drawing(figsize=(WIDTH, 0.9 + 0.25 * len(KINDS)), layout="constrained")
    ax = figure.subplots()
    ax.set_xscale("log", base=2)
    for row, name in enumerate(KINDS):
        size, last = getattr(plan.memory, name), name == "total"
        ax.axhline(row, color=PALE, linewidth=0.8, zorder=0)
        if size:
            marker = {"marker": "D" if last else "o", "color": INK if last else GREY}
            ax.plot(size, row, markersize=5, linestyle="", gid=name, **marker)
    hardware = plan.hardware
    usable, installed = (
        (hardware.usable, "--", "may be taken"),
        (hardware.memory, "-", "of the device"),
    )
    for size, style, words in (usable, installed):
        ax.axvline(size, color=INK, linestyle=style, linewidth=1, label=f"{gib(size)} {words}")
    low, high = ax.get_xlim()
    ax.set_xlim(low, max(high, 2.0 * hardware.memory))
    ax.set_yticks(range(len(KINDS)), KINDS.values())
    ax.set_ylim(len(KINDS) - 0.5, -0.5)
    ax.xaxis.set_major_formatter(lambda size, _: gib(size))
    ax.tick_params(axis="y", length=0)
    ax.set_title(f"Memory of a device with {plan.memory.seeds} seeds side by side")
    figure.legend(loc="outside lower right", ncols=2)
    return figure

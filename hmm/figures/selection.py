"""Figures of model selection: the criteria over the number of states, the held-out runs."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seedmap.hmm.autoregressive.choice import AGREEMENT, SizeCandidate
from seedmap.hmm.autoregressive.map_sweep import SizeRow
from seedmap.hmm.figures.style import (
    GREY,
    INK,
    PALE,
    PAPER,
    WIDTH,
    Drawing,
    checked_axes,
    drawn,
    on_axes,
    set_wide_scale,
    short_names,
    styled,
)
from seedmap.hmm.selection.criteria import best_restarts, criterion_value, default_criterion
from seedmap.hmm.selection.fits import Fit, Sweep

# Not states: dark and light, full and dashed lines tell these apart.
_FIRST: dict[str, Any] = {"color": INK, "linestyle": "-"}
_SECOND: dict[str, Any] = {"color": GREY, "linestyle": "--"}
_THIRD: dict[str, Any] = {
    "color": INK,
    "linestyle": ":",
    "marker": "s",
    "markerfacecolor": PAPER,
}


@styled
def plot_model_selection(
    sweep: Sweep, num_states: int, criterion: str | None = None, ax: Axes | None = None
) -> Figure | Axes:
    """Show criteria and log-likelihoods over the number of states.

    Lines join the best restart of each number of states, the one of highest penalised training
    likelihood; dots are all restarts, bars their mean with one standard deviation. Degenerate
    restarts are left out and counted. A band marks the chosen number of states. The robust BIC
    has its line only, and only where it chose.

    Args:
        sweep: The fits.
        num_states: The chosen number of states.
        criterion: What it was chosen by, as for `hmm.select`, with the same default.
        ax: axes to draw the criteria alone on. Default: a new figure of three panels.

    Returns:
        `ax`, or the figure.
    """
    criterion = criterion or default_criterion(sweep)
    if ax is not None:
        _draw_criteria(checked_axes(ax), sweep, num_states, criterion)
        ax.set_xlabel(f"number of states{_count_degenerate(sweep)}")
        ax.legend()
        return ax
    figure = Drawing(figsize=(WIDTH, 3.2), layout="constrained")
    criteria, training, held_out = figure.subplots(1, 3)
    num_train, num_held_out = sweep.num_observations_train, sweep.num_observations_validation
    _draw_criteria(criteria, sweep, num_states, criterion)
    _add_series(training, sweep, "", lambda fit: fit.train_log_likelihood / num_train, _FIRST)
    _add_series(
        held_out, sweep, "", lambda fit: fit.validation_log_likelihood / num_held_out, _FIRST
    )
    figure.legend(
        *criteria.get_legend_handles_labels(), loc="outside upper left", ncols=3
    )  # above the axes: lines may run anywhere inside
    training.set_title("Training log-likelihood")
    held_out.set_title("Held-out log-likelihood")
    for ax in (training, held_out):
        ax.set_ylabel("nats per observation")
        _mark_candidates(ax, _candidates(sweep), num_states)
    figure.supxlabel(f"number of states{_count_degenerate(sweep)}", fontsize=8)
    return figure


def _draw_criteria(ax: Axes, sweep: Sweep, num_states: int, criterion: str) -> None:
    _add_series(ax, sweep, _named("BIC", criterion), lambda fit: fit.bic, _FIRST)
    _add_series(ax, sweep, _named("AIC", criterion), lambda fit: fit.aic, _SECOND)
    if criterion == "robust_bic":
        _add_robust_bic(ax, sweep)
    ax.set(title="Held-out criteria", ylabel="-2 log-likelihood + penalty (nats)")
    _mark_candidates(ax, _candidates(sweep), num_states)


def _candidates(sweep: Sweep) -> list[int]:
    return sorted({fit.num_states for fit in sweep.fits})


@styled
def plot_sizes(
    sizes: Sequence[SizeRow | SizeCandidate], num_states: int, ax: Axes | None = None
) -> Figure | Axes:
    """Show what speaks for and against each number of states of a map.

    Left BIC over its lowest; right the agreement of fits to halves of the runs, a dot a pair,
    beside that of segmentations drawn at random and the least that is asked for. A band marks the
    chosen number of states.

    Args:
        sizes: A row for each number of states.
        num_states: The chosen number of states.
        ax: axes to draw the agreement alone on. Default: a new figure of both panels.

    Returns:
        `ax`, or the figure.
    """
    if ax is not None:
        _draw_agreement(checked_axes(ax), sizes, num_states)
        ax.set_xlabel("number of states")
        ax.legend()
        return ax
    figure = Drawing(figsize=(WIDTH, 2.8), layout="constrained")
    bic, halves = figure.subplots(1, 2)
    candidates = [row.num_states for row in sizes]
    over = np.array([row.bic for row in sizes])
    bic.plot(candidates, over - over.min(), marker="o", markersize=4, gid="bic", **_FIRST)
    bic.set(title="Likelihood and size", ylabel="BIC over its lowest (nats)")
    _mark_candidates(bic, candidates, num_states)
    _draw_agreement(halves, sizes, num_states)
    figure.legend(*halves.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    figure.supxlabel("number of states", fontsize=8)
    return figure


def _draw_agreement(ax: Axes, sizes: Sequence[SizeRow | SizeCandidate], num_states: int) -> None:
    candidates = [row.num_states for row in sizes]
    for row in sizes:
        dots = [row.num_states] * len(row.halves)
        ax.plot(dots, row.halves, ".", color=INK, markersize=4, alpha=0.6)
    means = [np.nan if row.agreement is None else row.agreement for row in sizes]
    ax.plot(candidates, means, label="halves of the runs", gid="agreement", **_FIRST)
    chance = [row.chance if row.num_states > 1 else np.nan for row in sizes]
    ax.plot(candidates, chance, label="by chance", gid="chance", **_SECOND)
    ax.axhline(AGREEMENT, color=GREY, linewidth=0.8, linestyle=":", label="least asked for")
    ax.set(title="Agreement of halves", ylabel="adjusted Rand index", ylim=(-0.05, 1.05))
    _mark_candidates(ax, candidates, num_states)


def _mark_candidates(ax: Axes, candidates: list[int], chosen: int) -> None:
    """Ticks at the candidates and a band behind the chosen one."""
    ax.set_xticks(candidates)
    ax.set_xlim(candidates[0] - 0.6, candidates[-1] + 0.6)
    ax.axvspan(chosen - 0.4, chosen + 0.4, color=PALE, zorder=0, gid="chosen")


def _named(name: str, criterion: str) -> str:
    """A line's label, which tells whether the number of states was chosen by it."""
    chose = criterion in (f"validation_{name.lower()}", name.lower().replace(" ", "_"))
    return f"{name} (chose)" if chose else name


def _add_series(
    ax: Axes, sweep: Sweep, name: str, value: Callable[[Fit], float], style: dict[str, Any]
) -> None:
    """Draw one quantity: every restart, the mean with its spread, the best restart."""
    sound = [fit for fit in sweep.fits if not fit.degenerate]
    best = best_restarts(sweep)
    candidates = sorted(best)
    scores = [value(best[k]) for k in candidates]
    ax.plot(candidates, scores, marker="o", markersize=4, label=name, gid="best", **style)
    for k in candidates:
        values = [value(fit) for fit in sound if fit.num_states == k]
        ax.plot([k + 0.2] * len(values), values, ".", color=style["color"], ms=3, alpha=0.6)
        spread: dict[str, Any] = {"fmt": "_", "markersize": 5, "capsize": 2, "linewidth": 0.8}
        ax.errorbar(k - 0.2, np.mean(values), np.std(values), color=style["color"], **spread)
    set_wide_scale(ax, np.array([value(fit) for fit in sound]))


def _add_robust_bic(ax: Axes, sweep: Sweep) -> None:
    """Draw the robust BIC of the best restarts over the other criteria."""
    best = best_restarts(sweep)
    candidates = sorted(best)
    scores = [criterion_value(sweep, best[k], "robust_bic") for k in candidates]
    label = _named("robust BIC", "robust_bic")
    ax.plot(candidates, scores, markersize=4, label=label, gid="best", zorder=3, **_THIRD)


def _count_degenerate(sweep: Sweep) -> str:
    """How many restarts of which number of states are left out."""
    counts = Counter(fit.num_states for fit in sweep.fits if fit.degenerate)
    listed = ", ".join(f"{counts[k]} of {k} states" for k in sorted(counts))
    return f"\ndegenerate restarts left out: {listed}" if counts else ""


@styled
def plot_held_out(
    log_likelihood: np.ndarray,
    runs: Sequence[str],
    ax: Axes | None = None,
) -> Figure | Axes:
    """Show the log-likelihood of each held-out run, so that one that dominates is seen.

    Args:
        log_likelihood: Of each held-out run under the chosen fit, nats per checkpoint, float [run].
        runs: Names of the held-out runs.
        ax: axes to draw on. Default: a new figure.

    Returns:
        `ax`, or the figure.
    """
    order = np.argsort(log_likelihood, kind="stable")
    values = log_likelihood[order]
    given, ax = ax, on_axes(ax, 0.75 * WIDTH, 1.5 + 0.16 * len(values))
    rows = np.arange(len(values))
    ax.hlines(rows, 0, values, color=GREY, linewidth=1)
    ax.plot(values, rows, "o", color=INK, markersize=4, gid="held out")
    ax.axvline(0, color=INK, linewidth=0.6)
    set_wide_scale(ax, np.append(values, 0.0), "x")
    ax.set_yticks(rows, short_names([runs[i] for i in order]))
    ax.set(xlabel="log-likelihood per checkpoint (nats)", ylabel="held-out run")
    ax.set_title("Held-out runs under the chosen model")
    return drawn(ax, given)

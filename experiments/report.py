"""The report: one HTML file that opens anywhere, figures inlined, no script, no network."""

import base64
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from hmm.figures import png
from hmm.figures.style import signed

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
figcaption { color: #444; font-size: .95rem; max-width: 46rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd;
  vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
aside { border-left: 4px solid #d55e00; background: #fdf3ec; padding: .2rem 1rem; }
summary { cursor: pointer; margin: .5rem 0; }
"""


class Section(NamedTuple):
    """A part of the report.

    Attributes:
        heading: Its heading.
        figures: Names of its figures, each with the function that writes its caption from the
            summary.
        tables: Functions from the summary to HTML.
    """

    heading: str
    figures: Mapping[str, Callable[[Mapping], str]]
    tables: tuple[Callable[[Mapping], str], ...] = ()


def write_report(
    path: str | Path,
    title: str,
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    figures: Mapping[str, Figure | str | Path],
    notes: Sequence[str] = (),
) -> Path:
    """Write the report of a run as one self-contained HTML file, whole or not at all.

    Figures are `training_map`, `state_raster`, `losses`, `dissimilarity`, `convergence`,
    `model_selection`, `held_out` and `coefficients`; those not given are left out, others come
    last under their names.

    Args:
        path: File to write.
        title: Title of the report.
        summary: Content of `summary.json`.
        config: Content of `config.json`.
        figures: Figures by name, each a figure or the path of a PNG file.
        notes: Warnings, shown first.

    Returns:
        The path written.

    Raises:
        ValueError: A figure's file is missing.
    """
    images = {name: _image_source(name, figure) for name, figure in figures.items()}
    parts = [_notes(notes), _headline(summary)]
    parts += [_section(section, summary, images) for section in SECTIONS]
    known = {name for section in SECTIONS for name in section.figures}
    further = {name: _no_caption for name in images if name not in known}
    if further:
        parts.append(_section(Section("Further figures", further), summary, images))
    parts.append(_details("All numbers of the summary", _key_values(_flatten(summary))))
    parts.append("<h2>Configuration</h2>" + _key_values(_flatten(config)))
    path = Path(path)
    draft = path.with_name(path.name + ".part")
    draft.write_text(_page(title, parts), encoding="utf-8")
    os.replace(draft, path)
    return path


def _page(title: str, parts: Iterable[str]) -> str:
    title = escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{title}</h1>\n" + "\n".join(filter(None, parts)) + "\n</main>\n</body>\n</html>\n"
    )


def _image_source(name: str, figure: Figure | str | Path) -> str:
    """The figure's PNG as a data URI."""
    if isinstance(figure, Figure):
        content = png(figure)
    elif Path(figure).is_file():
        content = Path(figure).read_bytes()
    else:
        raise ValueError(f"figure {name}: there is no file {figure}; draw it again")
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _section(section: Section, summary: Mapping, images: Mapping[str, str]) -> str:
    shown = [name for name in section.figures if name in images]
    parts = [_figure(name, images[name], section.figures[name](summary)) for name in shown]
    parts += [table(summary) for table in section.tables]
    parts = [part for part in parts if part]
    return "\n".join([f"<h2>{escape(section.heading)}</h2>", *parts]) if parts else ""


def _figure(name: str, source: str, caption: str) -> str:
    label = escape(name.replace("_", " "))
    return (
        f'<figure id="{escape(name)}">\n<img src="{source}" alt="{label}">\n'
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>"
    )


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    return "<aside>\n<ul>" + "".join(f"<li>{escape(n)}</li>" for n in notes) + "</ul>\n</aside>"


def _details(heading: str, content: str) -> str:
    return f"<details>\n<summary>{escape(heading)}</summary>\n{content}\n</details>"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; numbers are formatted, all text is escaped."""
    head = "".join(f"<th>{escape(label)}</th>" for label in header)
    body = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    if not body:
        return ""
    head = f"<thead><tr>{head}</tr></thead>\n" if header else ""
    return f'<div class="table"><table>\n{head}<tbody>\n{body}\n</tbody>\n</table></div>'


def _cell(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    start = '<td class="number">' if number else "<td>"
    return f"{start}{escape(_text(value))}</td>"


def _text(value: Any) -> str:
    """A value as text: numbers to four digits or whole, null as a dash, truth as yes or no."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return str(value)


def _key_values(pairs: Iterable[tuple[str, Any]]) -> str:
    return _table((), [(key, value) for key, value in pairs])


def _flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Leaves of nested mappings and lists, in full precision, under dotted names."""
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return [(prefix, repr(value) if isinstance(value, float) else value)]
    leaves = [_flatten(entry, f"{prefix}.{key}" if prefix else str(key)) for key, entry in items]
    return [leaf for group in leaves for leaf in group]


def _records(records: Sequence[Mapping[str, Any]]) -> str:
    """A table of records, a column per key."""
    keys = list(dict.fromkeys(key for record in records for key in record))
    rows = [[record.get(key) for key in keys] for record in records]
    return _table([key.replace("_", " ") for key in keys], rows)


def _part(summary: Mapping, *keys: str) -> Any:
    """A nested value of the summary; None where a part is null or missing."""
    value: Any = summary
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _headline(summary: Mapping) -> str:
    unit = _part(summary, "convergence", "unit")
    mean, spread = (_text(_part(summary, "convergence", key)) for key in ("mean", "std"))
    rows = [
        ("seeds", _part(summary, "num_seeds")),
        ("diverged", _part(summary, "num_diverged")),
        ("converged", _part(summary, "num_converged")),
        ("time of convergence", f"{mean} ± {spread} ({_text(unit)}; mean ± standard deviation)"),
        ("converged means", f"evaluation accuracy above {_threshold(summary)}"),
        ("states", _part(summary, "num_states")),
        ("runs fork", _part(summary, "forking")),
        ("detour states", _part(summary, "detours")),
        ("R² of bag of states on time of convergence", _part(summary, "regression", "r2")),
        ("R² on left-out runs", _part(summary, "regression", "leave_one_out_r2")),
        ("p (F test)", _part(summary, "regression", "f_pvalue")),
    ]
    rows += [
        (f"dissimilarity of runs ({ground})", value)
        for ground, value in (_part(summary, "dissimilarity") or {}).items()
    ]
    rows += [
        (f"seconds to {what}", value) for what, value in (_part(summary, "seconds") or {}).items()
    ]
    return _table((), rows)


def _threshold(summary: Mapping) -> str:
    return _text(_part(summary, "convergence", "threshold"))


def _transitions(summary: Mapping) -> str:
    transitions = _part(summary, "transitions") or []
    return _records(
        [t | {"top_features": _features(t.get("top_features") or [])} for t in transitions]
    )


def _features(features: Iterable[Sequence[Any]]) -> str:
    return ", ".join(f"{name} {signed(change)}" for name, change in features)


def _selection(summary: Mapping) -> str:
    return _records(_part(summary, "selection") or [])


def _coefficients(summary: Mapping) -> str:
    return _records(_part(summary, "regression", "coefficients") or [])


def _visits(summary: Mapping) -> str:
    return _records(_part(summary, "states") or [])


def _restarts(summary: Mapping) -> str:
    agreement = _part(summary, "stability", "adjusted_rand")
    if not agreement:
        return ""
    return (
        "<p>Adjusted Rand index of the decoding with that of the other restarts (1: the same "
        "states whatever their labels, 0: as independent ones): "
        + escape(", ".join(f"{value:.2f}" for value in agreement))
        + ".</p>"
    )


def _priors(summary: Mapping) -> str:
    header = (
        "prior",
        "criterion",
        "scatter added",
        "states",
        "training",
        "held out, mean",
        "held out, median run",
        "agreement with this map",
    )
    rows = [tuple(row.values()) for row in _part(summary, "stability", "priors") or []]
    return _table(header, rows)


def _edges(summary: Mapping) -> str:
    header = ("from", "to", "share of restarts with the edge", "share of resamples of the runs")
    edges = _part(summary, "stability", "edges") or []
    return _table(header, [(e["from"], e["to"], e["restarts"], e["bootstrap"]) for e in edges])


def _held_out(summary: Mapping) -> str:
    runs = _part(summary, "held_out_log_likelihood") or {}
    return _table(("held-out run", "log-likelihood per checkpoint (nats)"), runs.items())


def _convergence_times(summary: Mapping) -> str:
    times = _part(summary, "convergence", "values")
    if not times:
        return ""
    seeds = _part(summary, "seeds")
    rows = [(s, "never" if t is None else t) for s, t in zip(seeds, times, strict=True)]
    header = ("seed", _text(_part(summary, "convergence", "unit")))
    return _details("Time of convergence of every seed", _table(header, rows))


def _states(states: Sequence[int]) -> str:
    """`state 2`, or `states 2 and 4`."""
    names = [str(state) for state in states]
    listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"state{'s' if len(names) > 1 else ''} {listed}"


def _no_caption(summary: Mapping) -> str:
    return ""


def _caption_training_map(summary: Mapping) -> str:
    forks = "Runs fork" if _part(summary, "forking") else "All runs meet the states in one order"
    detours = _part(summary, "detours")
    found = "no state is a detour"
    if detours:
        found = f"{_states(detours)} (dashed) can be avoided, and time there goes with delay"
    return (
        "Circles are states, their area the time spent there; arrows are transitions, wider the "
        f"more runs take them, with the metrics that matter most. {forks}; {found}."
    )


def _caption_state_raster(summary: Mapping) -> str:
    return (
        "Each row is a run, coloured by decoded state and sorted by convergence (diamond): "
        f"{_text(_part(summary, 'num_converged'))} of {_text(_part(summary, 'num_seeds'))} runs "
        f"converge, through up to {_text(_part(summary, 'num_states'))} states."
    )


def _caption_losses(summary: Mapping) -> str:
    return (
        "Loss and accuracy of the fastest, the median and the slowest run to converge, and of one "
        "that never does if there is such a run; a change of colour is a change of state."
    )


def _caption_dissimilarity(summary: Mapping) -> str:
    return (
        "How differently each pair of runs spends its time over the states, similar runs side by "
        f"side; the mean over pairs is {_text(_part(summary, 'dissimilarity', 'discrete'))} "
        "(0: alike, 1: no state in common)."
    )


def _caption_convergence(summary: Mapping) -> str:
    return (
        f"When the runs first exceed an evaluation accuracy of {_threshold(summary)}, on average "
        f"at {_text(_part(summary, 'convergence', 'unit'))} "
        f"{_text(_part(summary, 'convergence', 'mean'))}."
    )


def _caption_model_selection(summary: Mapping) -> str:
    return (
        "Held-out criteria and log-likelihoods for each number of states (line: best restart; "
        "dots: all restarts; bars: mean and standard deviation); the band marks the "
        f"{_text(_part(summary, 'num_states'))} chosen. Where training and held-out likelihood "
        "part, the model overfits."
    )


def _caption_held_out(summary: Mapping) -> str:
    return (
        "Log-likelihood of each held-out run under the chosen model. A run far below the others "
        "decides the selection nearly alone."
    )


def _caption_coefficients(summary: Mapping) -> str:
    return (
        "How much later than the mean run a run wholly in one state would converge, with its "
        f"interval; the shares of time explain {_percent(_part(summary, 'regression', 'r2'))} of "
        "the variance in sample. Not to be read unless p < 0.001."
    )


def _percent(share: float | None) -> str:
    return "an undefined part" if share is None else f"{100 * share:.1f} %"


SECTIONS = (
    Section("Training map", {"training_map": _caption_training_map}, (_transitions, _visits)),
    Section(
        "States over time",
        {
            "state_raster": _caption_state_raster,
            "losses": _caption_losses,
            "dissimilarity": _caption_dissimilarity,
        },
    ),
    Section("Convergence", {"convergence": _caption_convergence}, (_convergence_times,)),
    Section(
        "What the states mean for convergence",
        {"coefficients": _caption_coefficients},
        (_coefficients,),
    ),
    Section(
        "Number of states",
        {"model_selection": _caption_model_selection, "held_out": _caption_held_out},
        (_selection, _held_out),
    ),
    Section("How far the map can be trusted", {}, (_priors, _restarts, _edges)),
)

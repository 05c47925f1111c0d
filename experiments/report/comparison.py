"""A comparison of runs as text, CSV, JSON, figures and one HTML page."""

import csv
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from seedmap.errors import UserError
from seedmap.experiments.report import html
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.compare import GROUNDS
from seedmap.hmm import figures
from seedmap.hmm.figures import Experiment

JSON, CSV, HTML = "compare.json", "compare.csv", "compare.html"
FILES = (JSON, CSV, HTML, run_folder.SWEEP, *run_folder.HMM)
OWN = {*FILES, *(f"{name}.part" for name in FILES), run_folder.FIGURES}
PAPER_COLUMNS = ("states", "r2", "pvalue", "dissimilarity", "forks")
_NOT_PREDICTED = "not comparable"

Row = Mapping[str, Any]


def check_out(
    folder: Path, marker: str = JSON, own: Collection[str] = OWN, whose: str = "a comparison"
) -> None:
    """Checks that a comparison may be written to a folder; changes nothing.

    Args:
        folder: where.
        marker: the file that says a comparison stands there.
        own: names of all that a comparison writes.
        whose: what writes there, for the message.

    Raises:
        UserError: it is a file, cannot be written to, or holds something that is not a
            comparison's.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out: {folder} is a file; name a folder")
    standing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (standing.is_dir() and os.access(standing, os.W_OK | os.X_OK)):
        raise UserError(
            f"--out: cannot make {folder}, {standing} is no folder that may be written to; name "
            "another folder"
        )
    entries = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    # What has a name of ours may still be someone else's where no comparison stands.
    foreign = [name for name in entries if name not in own] if marker in entries else entries
    if foreign:
        raise UserError(
            f"--out: {folder} holds {foreign[0]}, which is not {whose}'s; name another folder"
        )


def write_comparison(folder: Path, content: Mapping[str, Any]) -> Path:
    """Writes `compare.json`, `compare.csv`, the figures and `compare.html`; returns its path.

    Args:
        folder: made if need be; an earlier comparison in it is replaced.
        content: "runs" (rows of `experiments.runs.compare.row_of`), "notes", and of one HMM for all
            "together" or "zero_shot" (rows of `experiments.runs.compare_joint`), with "model" for
            the latter.
    """
    check_out(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.clear(folder, OWN - {JSON})  # which marks the folder as ours, and is replaced
    run_folder.write_json(folder / JSON, content)
    write_csv(folder / CSV, [flat(row) for row in content["runs"]])
    drawn = make_figures(content)
    for name, figure in drawn.items():
        figures.save(figure, folder / run_folder.FIGURES / f"{name}.png")
    return html.write_page(folder / HTML, "Runs compared", _parts(content, drawn))


def flat(row: Row) -> dict[str, Any]:
    """A row without nesting, as `compare.csv` has it."""
    paper = row["paper"] or {}
    plain = {key: value for key, value in row.items() if key not in ("dissimilarity", "paper")}
    plain["detours"] = " ".join(map(str, row["detours"]))
    plain |= {f"dissimilarity_{ground}": row["dissimilarity"][ground] for ground in GROUNDS}
    return plain | {f"paper_{key}": paper.get(key) for key in PAPER_COLUMNS}


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows of the same columns, whole or not at all."""
    draft = path.with_name(path.name + ".part")
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(draft, path)


def make_figures(content: Mapping[str, Any]) -> dict[str, Figure]:
    """The figures of a comparison, by name."""
    drawn = {"comparison": figures.plot_comparison([_experiment(row) for row in content["runs"]])}
    read = content.get("together") or content.get("zero_shot")
    if read:
        shares = np.array([row["shares"] for row in read])
        drawn["shared_states"] = figures.plot_shared_states(shares, [row["run"] for row in read])
    return drawn


def _experiment(row: Row) -> Experiment:
    paper, mean, std = row["paper"], row["convergence_mean"], row["convergence_std"]
    return Experiment(
        name=row["run"],
        r2=row["r2"],
        dissimilarity=row["dissimilarity"]["index"],
        spread=std / mean if mean and std is not None else None,
        states=row["states"],
        forks=row["forks"],
        published=paper and (paper["r2"], paper["dissimilarity"], paper["states"]),
    )


_HEADER = (
    *("run", "experiment", "seeds", "converged", "states", "R²", "R² left out", "p"),
    *(*GROUNDS, "forks", "detours", "convergence"),
)


def _cells(row: Row) -> list[str]:
    """A run's row of the table, as text."""
    time = "never"
    if row["convergence_mean"] is not None:
        spread = row["convergence_std"]
        time = f"{row['convergence_mean']:.4g}" + (f" ± {spread:.3g}" if spread is not None else "")
        time = f"{time} {row['unit']}s"
    return [
        *(row["run"], row["experiment"], str(row["seeds"]), str(row["converged"])),
        *(str(row["states"]), _number(row["r2"]), _number(row["leave_one_out_r2"])),
        _pvalue(row["f_pvalue"]),
        *(_number(row["dissimilarity"][ground]) for ground in GROUNDS),
        *("yes" if row["forks"] else "no", " ".join(map(str, row["detours"])) or "none", time),
    ]


def _paper_cells(paper: Row) -> list[str]:
    """The paper's own row under it."""
    numbers = [str(paper["states"]), _number(paper["r2"]), "", paper["pvalue"] or ""]
    dissimilarity = [_number(paper["dissimilarity"]), "", ""]
    forks = "yes" if paper["forks"] else "no"
    return ["  paper A", "", "", "", *numbers, *dissimilarity, forks, "", ""]


def _number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3f}"


def _pvalue(value: float | None) -> str:
    return "<0.001" if value is not None and value < 0.001 else _number(value)


def _table_rows(rows: Sequence[Row]) -> list[list[str]]:
    found = []
    for row in rows:
        found.append(_cells(row))
        if row["paper"]:
            found.append(_paper_cells(row["paper"]))
    return found


_READ_HEADER = (
    *("run", "states visited", "states of its own", "agreement"),
    *("held out", "held out, own HMM", "R²", "R², own HMM", "p", "forks"),
)


def _read_cells(row: Row) -> list[str]:
    likelihood = row["log_likelihood"]
    cells = [
        *(row["run"], " ".join(map(str, row["states_visited"])), str(row["own_states"])),
        *(_number(row["adjusted_rand"]), _number(likelihood["held_out"]["median"])),
        *(_number(likelihood["own_held_out"]["median"]), _number(row["r2"])),
        *(_number(row["own_r2"]), _pvalue(row["f_pvalue"]), "yes" if row["forks"] else "no"),
    ]
    if "prediction_r2" in row:
        value = row["prediction_r2"]
        cells.append(_NOT_PREDICTED if value is None else f"{value:.3f}")
    return cells


def _read_header(rows: Sequence[Row]) -> tuple[str, ...]:
    return _READ_HEADER + ("prediction R²",) * ("prediction_r2" in rows[0])


def terminal(content: Mapping[str, Any]) -> str:
    """The comparison as aligned text; notes last."""
    parts = [aligned(_HEADER, _table_rows(content["runs"]))]
    for key, said in (("together", _together), ("zero_shot", _zero_shot)):
        if content.get(key):
            rows = content[key]
            parts += ["", said(content), aligned(_read_header(rows), map(_read_cells, rows))]
    return "\n".join(parts + [f"note: {note}" for note in content["notes"]])


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text, its columns one under the other."""
    lines = [list(header), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    joined = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return "\n".join(joined)


_LIKELIHOOD = (
    "Log-likelihoods are of the median held-out run, in nats per checkpoint; agreement is the "
    "adjusted Rand index with the decoding of the run's own HMM."
)


def _together(content: Mapping[str, Any]) -> str:
    return f"One HMM fitted to all runs together, each z-scored in itself. {_LIKELIHOOD}"


def _zero_shot(content: Mapping[str, Any]) -> str:
    return (
        f"Read with the HMM of {content['model']}, unchanged. {_LIKELIHOOD} R² is with the "
        "coefficients fitted anew; prediction R² with those of its run unchanged, and is negative "
        "where they predict worse than the run's own mean."
    )


_CAPTIONS = {
    "comparison": (
        "Each row is a run; a hollow diamond is paper A's number for the experiment. R² is of the "
        "outcome on the shares of time in the states; the spread is that of the times of "
        "convergence, over the seeds that converge."
    ),
    "shared_states": (
        "How the seeds of each run spend their checkpoints over the states of one HMM: runs that "
        "share a colour share a state, as seen in z-scores."
    ),
}


def _parts(content: Mapping[str, Any], drawn: Mapping[str, Figure]) -> list[str]:
    """The page's HTML."""
    parts = [
        html.notes(content["notes"]),
        html.table(_HEADER, _table_rows(content["runs"])),
        _image(drawn, "comparison"),
    ]
    for key, said in (("together", _together), ("zero_shot", _zero_shot)):
        if content.get(key):
            rows = content[key]
            heading = "One HMM for all" if key == "together" else "One run's HMM on the others"
            parts += [
                f"<h2>{heading}</h2>",
                f"<p>{escape(said(content))}</p>",
                html.table(_read_header(rows), [_read_cells(row) for row in rows]),
                _image(drawn, "shared_states"),
            ]
    numbers = run_folder.json_ready(dict(content))
    return [*parts, html.details("All numbers", html.key_values(html.flatten(numbers)))]


def _image(drawn: Mapping[str, Figure], name: str) -> str:
    return html.figure(name, html.image_source(name, drawn[name]), _CAPTIONS[name])

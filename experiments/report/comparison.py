"""A comparison of runs as text, CSV, JSON, figures and one HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from seedmap import files
from seedmap.experiments.report import html, out_folder, page
from seedmap.experiments.report.terminal import aligned, blocks
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.compare import Comparison, JointRow, PaperRow, RunRow
from seedmap.experiments.runs.compare_joint import Joint
from seedmap.hmm import figures
from seedmap.hmm.figures import Experiment
from seedmap.results import ABSENT, to_json
from seedmap.text import cell, fixed, joined, mean_and_sd, p_value, yes_no
from seedmap.transaction import transaction

JSON, CSV, HTML = "compare.json", "compare.csv", "compare.html"
OWN = out_folder.own_names((JSON, CSV, HTML, run_folder.SWEEP, *run_folder.HMM))
GROUNDS = ("index", "discrete", "means")
_PAPER_COLUMNS = ("states", "r2", "pvalue", "dissimilarity", "forks")


def check_free(folder: Path) -> None:
    """Raises UserError unless a comparison may be written to the folder; changes nothing."""
    out_folder.check_out(folder, JSON, OWN, "a comparison")


def write_comparison(folder: Path, comparison: Comparison, joint: Joint | None = None) -> Path:
    """Writes `compare.json`, `compare.csv`, the figures and `compare.html`; returns its path.

    Args:
        folder: made if need be; an earlier comparison in it is replaced.
        comparison: what to write.
        joint: one HMM of all runs, to be saved beside it.
    """
    check_free(folder)
    drawn = make_figures(comparison)
    with transaction(folder, OWN, "compare") as draft:
        files.write_json(draft / JSON, to_json(comparison))
        out_folder.write_csv(draft / CSV, [flat(row) for row in comparison.runs])
        out_folder.save_figures(draft, drawn)
        first, sections = _sections(comparison, drawn)
        made_by = run_folder.command().get("command")
        html.write_page(draft / HTML, "Runs compared", sections, first, command=made_by)
        if joint is not None:
            joint.save(draft)
    return folder / HTML


def flat(row: RunRow) -> dict[str, Any]:
    """Returns a row without nesting, as `compare.csv` has it."""
    plain = to_json(row)
    paper, dissimilarity = plain.pop("paper") or {}, plain.pop("dissimilarity")
    plain["detours"] = ", ".join(row.detours)
    plain |= {f"dissimilarity_{ground}": dissimilarity[ground] for ground in GROUNDS}
    return plain | {f"paper_{key}": paper.get(key) for key in _PAPER_COLUMNS}


def _joint(comparison: Comparison) -> tuple[str, str, list[JointRow]] | None:
    """Returns heading, explanation and rows of the joint HMM, if one was asked for."""
    if comparison.together:
        return "One HMM for all", _TOGETHER, comparison.together
    if comparison.zero_shot:
        sentences = _ZERO_SHOT.format(model=comparison.model)
        return "One run's HMM on the others", sentences, comparison.zero_shot
    return None


def make_figures(comparison: Comparison) -> dict[str, Figure]:
    """Returns the figures of a comparison, by name."""
    drawn = {"comparison": figures.plot_comparison([_experiment(row) for row in comparison.runs])}
    joint = _joint(comparison)
    if joint is not None:
        _, _, rows = joint
        shares = np.array([row.shares for row in rows])
        drawn["shared_states"] = figures.plot_shared_states(shares, [row.run for row in rows])
    return drawn


def _experiment(row: RunRow) -> Experiment:
    paper, mean, std = row.paper, row.convergence_mean, row.convergence_std
    return Experiment(
        name=row.run,
        r2=row.r2,
        dissimilarity=row.dissimilarity.index,
        spread=std / mean if mean and std is not None else None,
        states=row.states,
        forks=row.forks,
        published=paper and (paper.r2, paper.dissimilarity, paper.states),
    )


_HEADER = (
    *("run", "experiment", "seeds", "converged", "states", "R²", "R² left out", "p"),
    *("one threshold", "first record"),
    *(*GROUNDS, "forks", "detours", "convergence"),
)


def _cells(row: RunRow) -> list[str]:
    """Returns a run's row of the table, as text."""
    time = "never"
    if row.convergence_mean is not None:
        time = f"{mean_and_sd(row.convergence_mean, row.convergence_std)} {row.unit}s"
    return [
        *(row.run, row.experiment, str(row.seeds), cell(row.converged)),
        *(str(row.states), fixed(row.r2), fixed(row.leave_one_out_r2)),
        p_value(row.f_pvalue),
        *(fixed(row.threshold_r2), fixed(row.first_record_r2)),
        *(fixed(getattr(row.dissimilarity, ground)) for ground in GROUNDS),
        *(row.headline.partition(" (")[0], ", ".join(row.detours) or "none", time),
    ]


def _paper_cells(paper: PaperRow) -> list[str]:
    """Returns the row of Hu et al. (2023) under a run's own."""
    numbers = [str(paper.states), fixed(paper.r2), "", paper.pvalue or "", "", ""]
    dissimilarity = [fixed(paper.dissimilarity), "", ""]
    forks = yes_no(paper.forks)
    return ["  Hu et al. (2023)", "", "", "", *numbers, *dissimilarity, forks, "", ""]


def _table_rows(rows: Sequence[RunRow]) -> list[list[str]]:
    lines = []
    for row in rows:
        lines.append(_cells(row))
        if row.paper:
            lines.append(_paper_cells(row.paper))
    return lines


_JOINT_HEADER = (
    *("run", "states visited", "states of its own", "agreement"),
    *("held out", "held out, own HMM", "R²", "R², own HMM", "p", "forks"),
)


def _joint_cells(row: JointRow) -> list[str]:
    likelihood = row.log_likelihood
    cells = [
        *(row.run, joined(row.states_visited, ""), str(row.own_states)),
        *(fixed(row.adjusted_rand), fixed(likelihood.held_out.median)),
        *(fixed(likelihood.own_held_out.median), fixed(row.r2)),
        *(fixed(row.own_r2), p_value(row.f_pvalue), yes_no(row.forks)),
    ]
    if row.prediction_r2 is not ABSENT:
        cells.append(fixed(row.prediction_r2, undefined="not comparable"))
    return cells


def _joint_header(rows: Sequence[JointRow]) -> tuple[str, ...]:
    return _JOINT_HEADER + ("prediction R²",) * (rows[0].prediction_r2 is not ABSENT)


def terminal(comparison: Comparison) -> str:
    """Returns the comparison as aligned text; notes last."""
    texts = [aligned(_HEADER, _table_rows(comparison.runs))]
    joint = _joint(comparison)
    if joint is not None:
        _, sentences, rows = joint
        texts += ["", sentences, aligned(_joint_header(rows), map(_joint_cells, rows))]
    return blocks(*texts, notes=comparison.notes)


_LIKELIHOOD = (
    "Log-likelihoods are of the median held-out run, in nats per checkpoint; agreement is the "
    "adjusted Rand index with the decoding of the run's own HMM."
)
_TOGETHER = f"One HMM fitted to all runs together, each z-scored separately. {_LIKELIHOOD}"
_ZERO_SHOT = (
    f"Decoded with the HMM of {{model}}, unchanged. {_LIKELIHOOD} R² is with coefficients fitted "
    "anew; prediction R² with those of its run unchanged, and is negative where they predict worse "
    "than the run's own mean."
)
_CAPTIONS = {
    "comparison": (
        "Each row is a run; a hollow diamond is the number of Hu et al. (2023) for the experiment. "
        "R² is of the outcome on the shares of time in the states; the spread is that of the times "
        "of convergence, over the seeds that converge."
    ),
    "shared_states": (
        "Shares of checkpoints that the seeds of each run spend in the states of one HMM: runs "
        "that share a colour share a state, as seen in z-scores."
    ),
}


def _sections(comparison: Comparison, drawn: Mapping[str, Figure]) -> tuple[list[str], list[str]]:
    """Returns the page's HTML: what stands above its table of contents, and what under it."""
    images = {name: html.figure(name, figure, _CAPTIONS[name]) for name, figure in drawn.items()}
    first = [images["comparison"], html.notes(comparison.notes)]
    sections = [page.titled("The runs", html.table(_HEADER, _table_rows(comparison.runs)))]
    joint = _joint(comparison)
    if joint is not None:
        heading, sentences, rows = joint
        table = html.table(_joint_header(rows), map(_joint_cells, rows))
        sections.append(
            page.titled(heading, page.paragraph(sentences), table, images["shared_states"])
        )
    return first, [*sections, page.all_numbers(comparison)]

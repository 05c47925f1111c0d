"""The published method beside the map: what it says of the same runs, and why they differ."""

from dataclasses import replace

import numpy as np

from seedmap import hmm
from seedmap.experiments.runs.analysis import Analysis, analyse
from seedmap.experiments.runs.findings_summary import PublishedSummary
from seedmap.experiments.runs.fitted import Fitted
from seedmap.experiments.tasks.base import MapConfig
from seedmap.hmm.reading import read_runs
from seedmap.results import to_json


def published_analysis(fitted: Fitted, question: MapConfig) -> Analysis:
    """Analyses the runs by the HMM of the published method, which must have been fitted.

    Args:
        fitted: the run.
        question: what its map was asked; runs that never converge get the last record's time.
    """
    assert fitted.published is not None
    read = read_runs(fitted.published, fitted.raw)
    capped = replace(question, censored="cap")
    parameters = fitted.published.parameters
    return analyse(fitted.dataset, read.sequences, parameters, read.paths, capped, as_decoded=True)


def compare_methods(
    fitted: Fitted, analysis: Analysis, question: MapConfig
) -> PublishedSummary | None:
    """Returns what the published method says; None where methods are not compared.

    Args:
        fitted: the run.
        analysis: of its own map.
        question: what the map was asked.
    """
    if fitted.published is None:
        return None
    theirs = published_analysis(fitted, question)
    rows = np.isin(theirs.sequences.runs, analysis.sequences.runs)
    leak = hmm.leak(theirs.sequences.values[:, 0], fitted.raw.values[:, 0], theirs.run_convergence)
    regression = theirs.regression
    return PublishedSummary(
        num_states=theirs.training_map.num_states,
        forking=bool(theirs.training_map.forking),
        detours=to_json(theirs.detours),
        r2=to_json(regression.r2),
        leave_one_out_r2=to_json(regression.leave_one_out_r2),
        f_pvalue=to_json(regression.f_pvalue),
        adjusted_rand=to_json(hmm.adjusted_rand_index(analysis.paths, theirs.paths[rows])),
        leak=leak,
        sentences=_why(theirs, leak),
    )


def _why(theirs: Analysis, leak: hmm.Leak | None) -> list[str]:
    """Why the two maps may differ."""
    sentences = []
    if leak is not None:
        sentences.append(
            "Metrics z-scored within each run tell from the first record on when it converges: "
            f"leave-one-out R² {leak.scaled:.2f}, against {leak.raw:.2f} as recorded."
        )
    sentences.append(
        "A state is a level, so that a smooth curve is cut into ever more states, and records "
        "count as independent."
    )
    if theirs.training_map.forking or theirs.detours:
        sentences.append(
            "Forks are two runs that visit states in different orders, detours states that some "
            "converged run skips and that go with later convergence: neither is tested, and a fast "
            "run passes between two records."
        )
    return sentences

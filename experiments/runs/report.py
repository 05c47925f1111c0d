"""The last step of a run: its figures and its page."""

import time
from pathlib import Path

from seedmap.experiments.report.figures import make_figures
from seedmap.experiments.report.run import write_report
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.fit_and_map import Mapped, write_config
from seedmap.hmm import figures


def report_run(mapped: Mapped) -> Path:
    """Draws every figure of a mapped run and writes `report.html`; returns its path."""
    started = time.perf_counter()
    folder, config = mapped.fitted.folder, mapped.fitted.config
    paths = {
        name: figures.save(figure, folder / run_folder.FIGURES / f"{name}.png")
        for name, figure in make_figures(mapped).items()
    }
    report = write_report(
        folder / run_folder.REPORT,
        f"Training map of {config['experiment']}",
        mapped.summary,
        config,
        paths,
        mapped.summary.notes,
    )
    write_config(folder, config, {}, {"report": time.perf_counter() - started})
    return report

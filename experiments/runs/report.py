"""The last step of a run: its figures and its page."""

import time
from pathlib import Path

from seedmap import files
from seedmap.experiments.report.explored import explored
from seedmap.experiments.report.figures import make_figures
from seedmap.experiments.report.out_folder import save_figures
from seedmap.experiments.report.run import write_report
from seedmap.experiments.runs import folder as run_folder
from seedmap.experiments.runs.fit_and_map import Mapped
from seedmap.experiments.runs.fitted import changed_config
from seedmap.timings import timed
from seedmap.transaction import transaction


def report_run(mapped: Mapped) -> Path:
    """Draws every figure of a mapped run and writes `report.html`; returns its path."""
    started = time.perf_counter()
    folder, config = mapped.fitted.folder, mapped.fitted.config
    with timed("figures"):
        drawn = make_figures(mapped)
    with timed("figures"), transaction(folder, (run_folder.REPORT,), "report") as draft:
        save_figures(draft, drawn)
        write_report(
            draft / run_folder.REPORT,
            f"Training map of {config['experiment']}",
            mapped.summary,
            config,
            drawn,
            explored(mapped),
        )
        seconds = {"report": time.perf_counter() - started}
        files.write_json(draft / run_folder.CONFIG, changed_config(config, {}, seconds))
    return folder / run_folder.REPORT

"""`seedmap map DIR` and `seedmap report DIR`: the training map of a fitted run, and its page."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from seedmap.experiments.commands.experiment_flags import Flat
from seedmap.experiments.commands.folder_options import FolderOptions, check_is_run
from seedmap.experiments.commands.parsing import parse
from seedmap.experiments.tasks.base import MapConfig


@dataclass(frozen=True)
class MapOptions(FolderOptions):
    """Options of `seedmap map`."""

    map: Flat[MapConfig] = field(default_factory=MapConfig)


def map_command(argv: Sequence[str]) -> None:
    """Runs `seedmap map DIR`."""
    options = parse(MapOptions, "map", argv)
    check_is_run("map", options.folder)
    from seedmap.experiments.report.run_text import summary_text
    from seedmap.experiments.runs.fit_and_map import map_run
    from seedmap.experiments.runs.fitted import read_fitted
    from seedmap.experiments.runs.session import in_place

    with in_place(options.folder, "map"):
        mapped = map_run(read_fitted(options.folder), options.map)
    print(summary_text(mapped.summary))
    print(f"Next: seedmap report {options.folder}")


def report_command(argv: Sequence[str]) -> None:
    """Runs `seedmap report DIR`."""
    options = parse(FolderOptions, "report", argv)
    check_is_run("report", options.folder)
    from seedmap.experiments.runs.fit_and_map import read_mapped
    from seedmap.experiments.runs.report import report_run
    from seedmap.experiments.runs.session import in_place

    with in_place(options.folder, "report"):
        print(f"Report: {report_run(read_mapped(options.folder))}")

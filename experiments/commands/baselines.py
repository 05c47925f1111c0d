"""`seedmap baselines DIR`: the regression on states against its baselines."""

from collections.abc import Sequence

from seedmap.experiments.commands.folder_options import FolderOptions, check_is_run
from seedmap.experiments.commands.parsing import parse


def baselines_command(argv: Sequence[str]) -> None:
    """Runs `seedmap baselines DIR`."""
    options = parse(FolderOptions, "baselines", argv)
    check_is_run("baselines", options.folder)
    from seedmap.experiments.report.run_text import baselines
    from seedmap.experiments.runs.baselines import baselines_run
    from seedmap.experiments.runs.folder import BASELINES
    from seedmap.experiments.runs.session import in_place

    with in_place(options.folder, "baselines"):
        print(baselines(baselines_run(options.folder)))
    print(f"Written: {options.folder / BASELINES}. Next: seedmap report {options.folder}")

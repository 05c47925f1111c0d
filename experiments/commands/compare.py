"""`seedmap compare RUN RUN ...`: what several runs found, and one HMM for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from seedmap.experiments.commands.parsing import UsageError, parse


@dataclass(frozen=True)
class CompareOptions:
    """Options of `seedmap compare`."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """Run folders, fitted and mapped; at least two."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder to write compare.csv, compare.json, compare.html and figures to."""
    together: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also fit one HMM to the seeds of all runs together, by the settings of the first."""
    model: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Also read the other runs with the HMM of this one, unchanged."""


def compare_command(argv: Sequence[str]) -> None:
    """Runs `seedmap compare RUN RUN ...`."""
    options = parse(CompareOptions, "compare", argv)
    if options.together and options.model is not None:
        raise UsageError("--together and --model are two questions; ask one at a time")
    if options.out is None:
        _compare(options)
        return
    from seedmap.experiments.report.comparison import check_free
    from seedmap.transaction import claim

    with claim(options.out, "compare", lambda: check_free(options.out)):
        _compare(options)


def _compare(options: CompareOptions) -> None:
    """Compares the runs, prints what was found and writes it to --out."""
    from seedmap.experiments.report.comparison import terminal, write_comparison
    from seedmap.experiments.runs.compare import compare_runs, read_runs

    folders, model = list(options.folders), options.model
    if model is not None and model.resolve() not in [folder.resolve() for folder in folders]:
        folders.insert(0, model)
    runs = read_runs(folders)
    comparison = compare_runs(runs)
    joint = None
    if options.together:
        from seedmap.experiments.report.progress import fit_bar
        from seedmap.experiments.runs.compare_joint import fit_runs_together

        with fit_bar() as callback:
            joint = fit_runs_together(runs, callback)
        notes = comparison.notes + joint.notes
        comparison = replace(comparison, together=joint.rows, notes=notes)
    if model is not None:
        from seedmap.experiments.runs.compare_joint import read_with

        (source,) = [run for run in runs if run.folder.resolve() == model.resolve()]
        rows = read_with(source, runs)
        comparison = replace(comparison, model=source.name, zero_shot=rows)
    print(terminal(comparison))
    if options.out is not None:
        print(f"Written: {write_comparison(options.out, comparison, joint)}")

"""`seedmap noise compare RUN RUN ...`: what tools did to the same replicas."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from seedmap.experiments.commands.parsing import parse


@dataclass(frozen=True)
class CompareNoiseOptions:
    """Options of `seedmap noise compare`."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """Folders of studies of the same task, data and settings, as `seedmap noise` makes them in
    separate processes: on another device, with other XLA flags or numbers of threads, vmapped or
    one at a time; at least two."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder to write noise_compare.csv, noise_compare.json, noise_compare.html and a figure to."""


def compare_noise_command(argv: Sequence[str]) -> None:
    """Runs `seedmap noise compare RUN RUN ...`."""
    options = parse(CompareNoiseOptions, "noise compare", argv)
    from seedmap.experiments.noise.compare import compare_studies
    from seedmap.experiments.noise.report.compare import check_free, terminal, write_comparison
    from seedmap.transaction import claim

    if options.out is None:
        print(terminal(compare_studies(options.folders)))
        return
    with claim(options.out, "noise compare", lambda: check_free(options.out)):
        comparison = compare_studies(options.folders)
        print(terminal(comparison))
        print(f"Written: {write_comparison(options.out, comparison)}")

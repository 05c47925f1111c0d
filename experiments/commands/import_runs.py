"""`seedmap import KIND ...`: runs trained elsewhere, as a run folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from seedmap.experiments.commands.parsing import UsageError, parse


@dataclass(frozen=True)
class CheckpointsOptions:
    """Options of `seedmap import checkpoints`."""

    pattern: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATTERN")]
    """Paths of the checkpoints, with {run} and {step} for their names and * for any text:
    'ckpts/seed_{run}/step_{step}'. A step is a number, as 512, 20k or 1.5M."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Run folder to write."""
    layout: str | None = None
    """Naming scheme of the weights: bert, gpt-neox, vit, vit-timm, vit-torchvision, resnet,
    resnet-hf or flax; by default recognised from the names."""
    rules: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """TOML file of rules for any other layout (experiments/checkpoints/rules.py has an
    example)."""
    heads: int | None = None
    """Number of attention heads, if no config.json next to the checkpoint gives it."""
    outcomes: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """CSV file with columns run, step and any of eval_loss, eval_accuracy, train_loss and
    train_accuracy, to go with the metrics."""
    threshold: float = 0.9
    """Evaluation accuracy above which a run has converged."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Continue the interrupted import in --out; begin it if there is none."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace the run in the folder."""


def checkpoints_command(argv: Sequence[str]) -> None:
    """Runs `seedmap import checkpoints PATTERN --out DIR`."""
    options = parse(CheckpointsOptions, "import checkpoints", argv)
    from seedmap.experiments.checkpoints.importing import Source, import_checkpoints
    from seedmap.experiments.report.progress import checkpoint_bar
    from seedmap.experiments.runs.folder import can_resume
    from seedmap.experiments.runs.settings import check_threshold

    check_threshold(options.threshold)
    source = Source(options.pattern, options.layout, options.rules, options.heads, options.outcomes)
    try:
        with checkpoint_bar() as callback:
            import_checkpoints(
                source,
                options.out,
                options.threshold,
                resume=options.resume,
                overwrite=options.overwrite,
                callback=callback,
            )
    except KeyboardInterrupt:
        if can_resume(options.out):
            raise KeyboardInterrupt(f"; continue with --resume --out {options.out}") from None
        raise
    print(f"Imported: {options.out}. Next: seedmap fit {options.out}")


@dataclass(frozen=True)
class MetricsOptions:
    """Options of `seedmap import metrics`."""

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """A .csv or .jsonl file with all runs, a folder of such files (a file a run), or a folder of
    the JSON files of Hu et al.'s code (a folder a run)."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Run folder to write."""
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OURS=THEIRS ...")] = ()
    """Columns under other names, ours=theirs, as l2=weight_norm eval_accuracy=val_acc."""
    run_column: str | None = None
    """For one file with all runs, the column that names the run; by default run, or seed."""
    step_column: str | None = None
    """Column that orders the checkpoints; by default step, or epoch."""
    metrics: tuple[str, ...] = ()
    """Columns the HMM sees, by seedmap's names; by default those of Hu et al. (2023) that are
    present. With it, only these, those of --columns, losses and accuracies are kept."""
    threshold: float = 0.9
    """Evaluation accuracy above which a run has converged."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace the run in the folder."""


def metrics_command(argv: Sequence[str]) -> None:
    """Runs `seedmap import metrics PATH --out DIR`."""
    options = parse(MetricsOptions, "import metrics", argv)
    from seedmap.experiments.runs.import_metrics import import_metrics
    from seedmap.experiments.runs.settings import check_threshold

    check_threshold(options.threshold)
    import_metrics(
        options.path,
        options.out,
        options.metrics,
        options.threshold,
        options.overwrite,
        _mapping(options.columns),
        options.run_column,
        options.step_column,
    )
    chosen = " ".join(["", "--metrics", *options.metrics]) if options.metrics else ""
    print(f"Imported: {options.out}. Next: seedmap fit {options.out}{chosen}")


def _mapping(pairs: Sequence[str]) -> dict[str, str]:
    """Parses `ours=theirs` into our name -> theirs."""
    columns: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not (ours and equals and theirs):
            raise UsageError(f"--columns {pair!r} is not OURS=THEIRS, such as l2=weight_norm")
        if ours in columns:
            raise UsageError(f"--columns names {ours!r} twice: {columns[ours]!r} and {theirs!r}")
        columns[ours] = theirs
    return columns


KINDS: dict[str, Callable[[Sequence[str]], None]] = {
    "checkpoints": checkpoints_command,
    "metrics": metrics_command,
}


def import_command(argv: Sequence[str]) -> None:
    """Runs `seedmap import KIND ...`."""
    known = " or ".join(f"`seedmap import {kind}`" for kind in KINDS)
    if argv[:1] in (["-h"], ["--help"]):
        print(f"usage: {known}; each has --help")
        return
    if not argv:
        raise UsageError(f"name what to import: {known}")
    if argv[0] not in KINDS:
        raise UsageError(f"cannot import {argv[0]!r}; there is {known}")
    KINDS[argv[0]](argv[1:])

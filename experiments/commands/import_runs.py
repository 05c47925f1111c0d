"""`seedmap import PATH`: runs trained elsewhere, as a run folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated

import tyro

from seedmap.experiments.commands.parsing import UsageError, parse


@dataclass(frozen=True)
class CheckpointsOptions:
    """Options of `seedmap import checkpoints`."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Run folder to write."""
    pattern: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="PATTERN")] = None
    """Paths of the checkpoints, with {run} and {step} for their names and * for any text:
    'ckpts/seed_{run}/step_{step}'. A step is a number, as 512, 20k or 1.5M. Of a cache of the hub
    'hub/models--org--name-seed{run}/refs/step{step}'."""
    hub: Annotated[str | None, tyro.conf.arg(metavar="ORG/NAME-{run}")] = None
    """In place of a pattern: repositories of the Hugging Face hub. One revision at a time is
    fetched, measured and deleted. Needs huggingface_hub."""
    revisions: Annotated[str | None, tyro.conf.arg(metavar="STEP{step}")] = None
    """Branches and tags of these, as 'step{step}'; by default main."""
    layout: str | None = None
    """Naming scheme of the weights: bert, gpt-neox, vit, vit-timm, vit-torchvision, resnet,
    resnet-hf, flax (Keras too), gpt2, nanogpt, llama (Mistral, Qwen, Gemma too) or plain (PyTorch's
    layers by their shapes); by default recognised from the names."""
    rules: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """TOML file of rules for any other layout (experiments/checkpoints/rules.py has an
    example)."""
    heads: int | None = None
    """Number of attention heads, if no config.json next to the checkpoint gives it."""
    outcomes: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """CSV file with columns run, step and any of eval_loss, eval_accuracy, train_loss and
    train_accuracy, to go with the metrics."""
    converged: Annotated[str | None, tyro.conf.arg(metavar="'COLUMN > NUMBER'")] = None
    """When a run has converged: 'eval_loss < 1.8'; any column of --outcomes, or a metric."""
    threshold: float | None = None
    """Short for an evaluation accuracy above a threshold; by default 0.9."""
    skip_unfinished: tyro.conf.FlagCreatePairsOff[bool] = False
    """Leave out checkpoints that are not there whole, instead of refusing all."""
    share: tyro.conf.FlagCreatePairsOff[bool] = False
    """Share the work: several processes, on several hosts too, are given the same command and each
    measures runs that no other measures. Then `seedmap collect DIR`."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Continue the interrupted import in --out, or add checkpoints that have come since; begin it
    if there is none."""
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
    if options.share and options.overwrite:
        raise UsageError("--share goes on with what is there; remove --overwrite, or import alone")
    if (options.pattern is None) == (options.hub is None):
        raise UsageError("give either PATTERN or --hub: where the checkpoints are")
    if options.revisions is not None and options.hub is None:
        raise UsageError("--revisions goes with --hub")
    source = Source(
        options.pattern or "",
        options.layout,
        options.rules,
        options.heads,
        options.outcomes,
        options.skip_unfinished,
        options.hub,
        options.revisions,
        options.converged,
    )
    try:
        with checkpoint_bar() as callback:
            complete = import_checkpoints(
                source,
                options.out,
                options.threshold,
                resume=options.resume,
                overwrite=options.overwrite,
                share=options.share,
                callback=callback,
            )
    except KeyboardInterrupt:
        if can_resume(options.out):
            raise KeyboardInterrupt(f"; continue with --resume --out {options.out}") from None
        raise
    what, following = ("Imported", "fit") if complete else ("Measured a share", "collect")
    print(f"{what}: {options.out}. Next: seedmap {following} {options.out}")


@dataclass(frozen=True)
class MetricsOptions:
    """Options of `seedmap import PATH`."""

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """A file with all runs, or a folder with a file or a folder for each; a folder named metrics or
    checkpoints is given as ./metrics."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Run folder to write. Needed but for --dry-run."""
    kind: str | None = None
    """How to read the logs, in place of what they look like; `seedmap import --help` lists the
    kinds."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write nothing: print runs, steps and columns, what is taken for step, run and accuracy, and
    the full command."""
    columns: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OURS=THEIRS ...")] = ()
    """Columns under other names, ours=theirs, as l2=weight_norm."""
    run_column: str | None = None
    """For one file with all runs, the column that names the run; by default run, seed or like."""
    step_column: str | None = None
    """Column that orders the records; by default step, global_step, epoch or like."""
    metrics: tuple[str, ...] = ()
    """Columns the HMM sees, by seedmap's names; by default those of Hu et al. (2023) that are
    present. With it, only these, those of --columns, losses and accuracies are kept."""
    every: float | None = None
    """Take one record every so many steps, for runs recorded at different steps."""
    converged: Annotated[str | None, tyro.conf.arg(metavar="'COLUMN > NUMBER'")] = None
    """When a run has converged: 'eval_accuracy > 0.9', 'train_loss < 1.6'; any column, with >, >=,
    < or <=. By default by --threshold, where an accuracy is recorded."""
    threshold: float | None = None
    """Short for an accuracy on examples not trained on above a threshold; by default 0.9."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Replace the run in the folder."""


def metrics_command(argv: Sequence[str], command: str = "import metrics") -> None:
    """Runs `seedmap import PATH`, or `seedmap import metrics PATH`."""
    options = parse(MetricsOptions, command, argv)
    from seedmap.experiments.runs.import_metrics import ImportSettings, import_metrics
    from seedmap.experiments.runs.import_preview import preview
    from seedmap.experiments.runs.settings import check_threshold

    check_threshold(options.threshold)
    if "{run}" in str(options.path):
        raise UsageError(
            f"{options.path} is a pattern of checkpoints; give it to `seedmap import checkpoints`"
        )
    settings = ImportSettings(
        options.metrics,
        _mapping(options.columns),
        options.run_column,
        options.step_column,
        options.kind,
        options.every,
        options.converged,
        options.threshold,
    )
    if options.dry_run:
        print(preview(options.path, settings, options.out), end="")
        return
    if options.out is None:
        raise UsageError("--out must be given: the run folder to write; or --dry-run to look only")
    import_metrics(options.path, options.out, options.overwrite, **vars(settings))
    chosen = " ".join(["", "--metrics", *map(quote, options.metrics)]) if options.metrics else ""
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


_KNOWN = (
    "`seedmap import PATH` (the same as `seedmap import metrics PATH`) or "
    "`seedmap import checkpoints PATTERN`"
)


def import_command(argv: Sequence[str]) -> None:
    """Runs `seedmap import PATH`."""
    if not argv:
        raise UsageError(f"name what to import: {_KNOWN}")
    metrics_command(argv, "import")

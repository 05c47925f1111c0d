"""The folder of a study of settings of the tools.

plan = begin(folder, plan, overwrite, resume)       # training/backend.json
children = placed(folder, plan, children)           # training/SETTING-NUMBER/, each a study
with collected(folder) as draft: ...                # all moved in, with what the draft holds

    DIR/backend.json, backend.csv, backend.html, figures/, logs/, SETTING-NUMBER/    the study
        training/                                                                    one begun

A study in the folder stays whole until the new one is; one that is gone on with keeps its processes
where they are.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from seedmap import files
from seedmap.errors import UserError
from seedmap.experiments.noise.backend.results import BackendPlan
from seedmap.experiments.noise.backend.settings import LOGS, Child
from seedmap.experiments.report import html, out_folder
from seedmap.experiments.runs import folder as run_folder
from seedmap.results import to_json
from seedmap.transaction import transaction

JSON, CSV, HTML = "backend.json", "backend.csv", "backend.html"
TRAINING = run_folder.TRAINING
_OWN = out_folder.own_names((JSON, CSV, HTML)) | {LOGS, TRAINING}
_COMMAND = "noise backend"


@dataclass(frozen=True)
class _Study:
    """What of a `backend.json` tells of the study, one that is done or begun.

    Attributes:
        experiment, hyperparameters, variables, children: as of `BackendPlan`.
        replaces: as of `BackendPlan`; False where the study is done.
    """

    experiment: str
    hyperparameters: dict[str, Any]
    variables: dict[str, str]
    children: list[str]
    replaces: bool = False


_SAME = ("experiment", "hyperparameters", "variables")  # in a study and one that resumes it


def begin(folder: Path, plan: BackendPlan, overwrite: bool, resume: bool) -> BackendPlan:
    """Begins a study in `training/`, or goes on with the one begun there or done in the folder.

    Returns:
        The plan; where a study is resumed, with the folders of its processes too.

    Raises:
        UserError: the folder holds something else, or another study and neither may it be replaced
            nor is it the one to resume.
    """
    begun, done = _read(folder / TRAINING), _read(folder)
    children = [name for study in (begun, done) if study for name in study.children]
    marker = JSON if begun is None else TRAINING
    out_folder.check_out(folder, marker, _OWN | set(children), "a study")
    before = begun or done
    if before is not None and not (overwrite or resume):
        what, how = "another study", "go on with"
        if begun is not None:
            what, how = "a study cut short", "continue"
        raise UserError(
            f"--out: {folder} holds {what}; name another folder, or add --resume to {how} it, or "
            "--overwrite to replace it"
        )
    if before is None or not resume:
        plan = replace(plan, replaces=done is not None)
    else:
        _check_same(folder, before, plan)
        # A study resumed under other settings still has the folders of the former ones.
        names = list(dict.fromkeys([*before.children, *plan.children]))
        plan = replace(plan, children=names, replaces=before.replaces)
    with transaction(folder, () if resume else {TRAINING}, _COMMAND) as draft:
        files.make_folder(draft / TRAINING)
        files.write_json(draft / TRAINING / JSON, to_json(plan))
    return plan


def placed(folder: Path, plan: BackendPlan, children: Sequence[Child]) -> list[Child]:
    """Moves processes to `training/`, but for those of a study that is gone on with."""
    return [
        child
        if child.folder.is_dir() and not plan.replaces
        else child._replace(folder=folder / TRAINING / child.folder.name)
        for child in children
    ]


def take_away(folder: Path) -> None:
    """Takes away what `begin` made, where no process has left more than a log."""
    names = {path.name for path in (folder / TRAINING).iterdir()}
    if names <= {JSON, LOGS}:
        with transaction(folder, {TRAINING}, _COMMAND):
            pass


@contextmanager
def collected(folder: Path) -> Iterator[Path]:
    """Gives a draft folder; after the block the study is what is in there and in `training/`.

    A study that is replaced goes.

    Raises:
        OSError: it cannot be written; the error names the file.
    """
    begun, done = _read(folder / TRAINING), _read(folder)
    replaced = begun is not None and begun.replaces and done is not None
    goes = {CSV, HTML, run_folder.FIGURES, LOGS, *done.children} if replaced else ()
    with transaction(folder, goes, _COMMAND, None if begun is None else TRAINING) as draft:
        yield draft


def _read(folder: Path) -> _Study | None:
    """Reads of a study that is done, or begun; None where there is none."""
    if not (folder / JSON).is_file():
        return None
    names = [field.name for field in fields(_Study) if field.name != "replaces"]
    content = run_folder.read_json(folder, JSON, f"{_COMMAND} EXPERIMENT", names)
    known = {field.name for field in fields(_Study)}
    return _Study(**{name: value for name, value in content.items() if name in known})


def _check_same(folder: Path, before: _Study, plan: BackendPlan) -> None:
    flat_before, flat_plan = (
        dict(html.flatten({name: getattr(study, name) for name in _SAME}))
        for study in (before, plan)
    )
    for name in {**flat_before, **flat_plan}:
        values = flat_before.get(name), flat_plan.get(name)
        if values[0] != values[1]:
            raise UserError(
                f"--resume: {folder} was begun with {name} {values[0]}, not {values[1]}; name "
                "another folder, or give the same flags"
            )

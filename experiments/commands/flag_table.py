"""The flags of every command as a table, `flags.json`, made from the dataclasses of their options.

    python -m seedmap.experiments.commands.flag_table      # after a flag has changed

Help texts, completion and the documentation are made of the table, which takes no time to read; a
test holds it equal to the dataclasses.
"""

import ast
import dataclasses
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from seedmap import files
from seedmap.experiments import EXPERIMENTS, load_experiment
from seedmap.experiments.commands.compare import CompareOptions
from seedmap.experiments.commands.experiment_flags import TrainOptions
from seedmap.experiments.commands.fit import FitOptions
from seedmap.experiments.commands.folder_options import FolderOptions
from seedmap.experiments.commands.forecast import ForecastOptions
from seedmap.experiments.commands.help_text import TABLE
from seedmap.experiments.commands.import_runs import CheckpointsOptions, MetricsOptions
from seedmap.experiments.commands.map import MapOptions
from seedmap.experiments.commands.noise import NoiseOptions
from seedmap.experiments.commands.noise_backend import BackendOptions
from seedmap.experiments.commands.noise_compare import CompareNoiseOptions
from seedmap.experiments.commands.overhead import OverheadOptions
from seedmap.experiments.commands.plan import PlanOptions
from seedmap.experiments.commands.show import ListOptions, ShowOptions
from seedmap.experiments.commands.train import RunOptions
from seedmap.hmm.readers.kinds import KINDS

OPTIONS: Mapping[str, type] = {
    "run": RunOptions,
    "train": TrainOptions,
    "import": MetricsOptions,
    "import checkpoints": CheckpointsOptions,
    "import metrics": MetricsOptions,
    "collect": FolderOptions,
    "fit": FitOptions,
    "map": MapOptions,
    "report": FolderOptions,
    "show": ShowOptions,
    "ls": ListOptions,
    "baselines": FolderOptions,
    "noise": NoiseOptions,
    "noise compare": CompareNoiseOptions,
    "noise backend": BackendOptions,
    "plan": PlanOptions,
    "compare": CompareOptions,
    "forecast": ForecastOptions,
    "overhead": OverheadOptions,
}
OF_PRESET = {
    "run": ("training", "fit", "map"),
    "plan": ("training", "fit"),
}  # groups with a preset's defaults; else training
CHANGED = {"noise": {"seeds_at_once": None}}
# Of commands with many flags `--help` shows these, and `--help-all` all.
BASIC = frozenset(
    "preset out overwrite resume seeds epochs batch_size learning_rate data_dir corpus states "
    "method compare_methods metrics threshold sources roots replicas map settings on".split()
)


def table() -> dict[str, Any]:
    """Returns the table: groups of flags by command, and of hyperparameters by experiment."""
    commands = {
        name: {
            "groups": list(_groups(options)),
            "of_preset": list(OF_PRESET.get(name, ("training",))),
            "changed": {key: _text(value) for key, value in CHANGED.get(name, {}).items()},
        }
        for name, options in OPTIONS.items()
    }
    return {
        "commands": commands,
        "experiments": {name: _experiment(name) for name in EXPERIMENTS},
        "kinds": {kind.name: kind.summary for kind in KINDS.values()},
    }


def table_text() -> str:
    """Returns the table as its file has it."""
    return json.dumps(table(), indent=1, ensure_ascii=False) + "\n"


def _experiment(name: str) -> dict[str, Any]:
    experiment = load_experiment(name)
    kind = type(next(iter(experiment.presets.values())).training)
    presets = {
        preset: {group: _defaults(getattr(content, group)) for group in ("training", "fit", "map")}
        for preset, content in experiment.presets.items()
    }
    return {"training": _group("training", kind), "presets": presets}


def _defaults(config: Any) -> dict[str, str | None]:
    fields = dataclasses.fields(config)
    return {field.name: _text(getattr(config, field.name)) for field in fields}


def _groups(options: type) -> Iterator[dict[str, Any]]:
    """Yields the groups of a command; that of the experiment's own hyperparameters has no flags."""
    hints = get_type_hints(options, include_extras=True)
    kinds = {field: _bare(hints[field.name])[0] for field in dataclasses.fields(options)}
    nested = {f: kind for f, kind in kinds.items() if not _is_plain(kind)}
    if plain := [_flag(options, field) for field in kinds if field not in nested]:
        yield {"name": "arguments", "about": "", "flags": plain}
    for field, kind in nested.items():
        if isinstance(kind, TypeVar):
            yield {"name": field.name, "about": "", "flags": None}
        else:
            yield _group(field.name, kind)


def _is_plain(kind: Any) -> bool:
    return not (isinstance(kind, TypeVar) or dataclasses.is_dataclass(kind))


def _group(name: str, kind: Any) -> dict[str, Any]:
    flags = [_flag(kind, field) for field in dataclasses.fields(kind)]
    return {"name": name, "about": _joined(kind.__doc__ or ""), "flags": flags}


def _flag(owner: type, field: dataclasses.Field) -> dict[str, Any]:
    kind, marks = _bare(get_type_hints(owner, include_extras=True)[field.name])
    metavars = [mark.metavar for mark in marks if hasattr(mark, "metavar")]
    positional = tyro.conf.Positional in marks
    required = field.default is dataclasses.MISSING and field.name != "preset"
    return {
        "name": field.name,
        "value": metavars[0] if metavars else _value(kind),
        "positional": positional,
        "required": required,
        "default": _text(field.default),
        "about": _docs(owner)[field.name],
        "basic": field.name in BASIC or positional or required,
    }


def _bare(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Splits a type from what annotates it."""
    marks: tuple[Any, ...] = ()
    while hasattr(hint, "__metadata__"):
        hint, marks = hint.__origin__, (*marks, *hint.__metadata__)
    return hint, marks


def _value(kind: Any) -> str:
    """Returns what stands for the value in a help text; "" of what is on or off."""
    if get_origin(kind) in (Union, UnionType):
        (kind,) = [member for member in get_args(kind) if member is not NoneType]
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    if get_origin(kind) is tuple:
        return f"{_value(get_args(kind)[0])} ..."
    names = {bool: "", int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH"}
    return names[kind]


def _text(value: Any) -> str | None:
    """Returns a default as one would type it; None where there is none."""
    if value is None or value is dataclasses.MISSING or value == ():
        return None
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


@cache
def _docs(owner: type) -> dict[str, str]:
    """Returns the text below each field of a dataclass and of those it is made from."""
    docs: dict[str, str] = {}
    for kind in reversed(owner.__mro__):
        if not dataclasses.is_dataclass(kind):
            continue
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        assert isinstance(node, ast.ClassDef)
        for field, below in pairwise(node.body):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                assert isinstance(field.target, ast.Name)
                docs[field.target.id] = _joined(ast.literal_eval(below.value))
    return docs


def _joined(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    files.write_text(TABLE, table_text())

"""Results as frozen dataclasses, and as the JSON that stands in files.

content = to_json(summary)                 # mappings, lists, numbers, text, truth values, None
summary = from_json(RunSummary, content)   # checked field by field
schema = json_schema(RunSummary)           # strict: no field more, none less

A field stands in the file under its own name, in the order of the dataclass.
`field(metadata=named("from"))` gives it another name there (Python keeps "from" and "class" to
itself). A field that may be `ABSENT` is left out of the file where it is, which is not the same as
null.
"""

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar

import numpy as np

from seedmap.errors import UserError

Kind = TypeVar("Kind")
_SCALARS = {int: "integer", float: "number", str: "string", bool: "boolean"}


class Absent:
    """The type of `ABSENT`: a value that the file does not have; counts as false."""

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()


def named(name: str) -> dict[str, str]:
    """Returns the metadata of a dataclass field that has this name in the file."""
    return {"json": name}


def to_json(value: Any) -> Any:
    """Returns plain Python for JSON: dataclasses as dicts, arrays as lists, NaN and ±inf as None.

    Example:
        >>> to_json({"loss": np.array([0.5, np.nan])})
        {'loss': [0.5, None]}
    """
    if is_dataclass(value):
        return {
            _name(entry): to_json(getattr(value, entry.name))
            for entry in fields(value)
            if getattr(value, entry.name) is not ABSENT
        }
    if isinstance(value, Mapping):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [to_json(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_json(kind: type[Kind], content: Any) -> Kind:
    """Returns the dataclass that `to_json` made the content of.

    Args:
        kind: a dataclass whose fields are dataclasses, lists, tuples and dicts of them, numbers,
            text, truth values, None, `Absent` and `Any`.
        content: of the file.

    Raises:
        UserError: a field is missing, unknown or of another type; the message names it.
    """
    return _read(kind, content, "")


def _read(kind: Any, content: Any, name: str) -> Any:
    if kind is Any:
        return content
    if is_dataclass(kind):
        return _read_dataclass(kind, content, name)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _read_union(arguments, content, name)
    if origin in (list, tuple) and isinstance(content, list):
        return _read_sequence(origin, arguments, content, name)
    if origin is dict and isinstance(content, Mapping):
        return {key: _read(arguments[1], entry, f"{name}.{key}") for key, entry in content.items()}
    if kind is float and type(content) is int:
        return float(content)
    if kind in _SCALARS and type(content) is kind:
        return content
    raise UserError(f"has a {name.lstrip('.')!r} of another type than it should be")


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Returns the types of a dataclass's fields: looking them up takes longer than reading one."""
    return typing.get_type_hints(kind)


def _read_dataclass(kind: Any, content: Any, name: str) -> Any:
    if not isinstance(content, Mapping):
        raise UserError(
            f"has a {name.lstrip('.')!r} that is no mapping" if name else "is no mapping"
        )
    hints, values, known = _hints(kind), {}, set()
    for entry in fields(kind):
        key = _name(entry)
        known.add(key)
        if key in content:
            values[entry.name] = _read(hints[entry.name], content[key], f"{name}.{key}")
        elif not _may_be_absent(hints[entry.name]):
            raise UserError(f"has no {f'{name}.{key}'.lstrip('.')!r}")
    for key in content:
        if key not in known:
            raise UserError(f"has an unknown field {f'{name}.{key}'.lstrip('.')!r}")
    return kind(**values)


def _read_union(kinds: tuple[Any, ...], content: Any, name: str) -> Any:
    if type(content) in kinds:  # None, or a scalar of its own type
        return content
    (kind, *others) = [kind for kind in kinds if kind not in (type(None), Absent)]
    for other in others:  # of several dataclasses the one whose fields these are
        if isinstance(content, Mapping) and {_name(entry) for entry in fields(other)} >= {*content}:
            kind = other
    return _read(kind, content, name)


def _read_sequence(origin: type, kinds: tuple[Any, ...], content: list, name: str) -> Any:
    if origin is list or kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(content)
    if len(kinds) != len(content):
        raise UserError(f"has {len(content)} entries in {name.lstrip('.')!r}, not {len(kinds)}")
    entries = zip(kinds, content, strict=True)
    return origin(_read(kind, entry, f"{name}.{i}") for i, (kind, entry) in enumerate(entries))


def json_schema(kind: type) -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of a dataclass's file.

    Every field is required unless it may be `ABSENT`, and no other is allowed.
    """
    definitions: dict[str, Any] = {}
    reference = _schema(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **reference,
        "$defs": dict(sorted(definitions.items())),
    }


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind is Any:
        return {}
    if isinstance(kind, type) and is_dataclass(kind):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # so that its own fields do not begin it again
            definitions[kind.__name__] = _schema_of_fields(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        kinds = [_schema(argument, definitions) for argument in arguments if argument is not Absent]
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if origin is tuple and arguments[-1] is not Ellipsis:
        entries = [_schema(argument, definitions) for argument in arguments]
        return {"type": "array", "prefixItems": entries, "items": False, "minItems": len(entries)}
    if origin in (list, tuple):
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    return {"type": "null" if kind is type(None) else _SCALARS[kind]}


def _schema_of_fields(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {
        "type": "object",
        "properties": {
            _name(entry): _schema(hints[entry.name], definitions) for entry in fields(kind)
        },
        "required": [
            _name(entry) for entry in fields(kind) if not _may_be_absent(hints[entry.name])
        ],
        "additionalProperties": False,
    }


def _may_be_absent(kind: Any) -> bool:
    return Absent in typing.get_args(kind)


def _name(entry: Field) -> str:
    return entry.metadata.get("json", entry.name)

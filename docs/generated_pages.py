"""Pages made from the code: the commands from their flags, result files from their schemas.

They are written beside the others before a build and are not in git; nor are the notebooks' copies.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seedmap.experiments import EXPERIMENTS
from seedmap.experiments.commands import COMMANDS, WITH_EXPERIMENT
from seedmap.experiments.commands.help_text import about_of, flag_of, groups_of, read_table

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "experiments" / "report" / "schemas"


def write_pages(docs: Path) -> None:
    """Writes the generated pages and copies the notebooks, but for those that are there alike."""
    pages = {
        "reference/commands.md": "\n".join(commands_page()),
        "reference/result_files.md": "\n".join(schemas_page()),
    }
    for name, text in pages.items():
        path = docs / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        copy = docs / "tutorials" / notebook.name
        if not copy.is_file() or copy.read_bytes() != notebook.read_bytes():
            shutil.copyfile(notebook, copy)


def commands_page() -> Iterator[str]:
    """Yields the lines of the commands' page: each with its examples and all of its flags."""
    yield from ("# Commands", "", "Made from the table that `--help` is made of.", "")
    for name, command in COMMANDS.items():
        yield from (
            f"## seedmap {name}",
            "",
            command.summary[0].upper() + command.summary[1:] + ".",
        )
        yield from ("", "```bash", *(f"seedmap {name} {e}" for e in command.examples), "```", "")
        if name in read_table()["commands"]:
            yield from _groups(name)
    yield from ("## Hyperparameters by experiment", "")
    for name, entry in EXPERIMENTS.items():
        own = read_table()["experiments"][name]
        presets = ", ".join(f"`{preset}`" for preset in own["presets"])
        yield from (f"### {name}", "", f"{entry.description} Presets: {presets}.", "")
        (group,) = [g for g in groups_of("train", name) or [] if g["name"] == "training"]
        yield from _flags(group["flags"])


def _groups(command: str) -> Iterator[str]:
    for group in groups_of(command) or []:
        if group["flags"] is None:
            yield from ("Hyperparameters are those of the experiment, see below.", "")
            continue
        if group["about"]:
            yield from (f"**{group['name']}**: {_plain(group['about'])}", "")
        yield from _flags(group["flags"])
    if command in WITH_EXPERIMENT:
        yield from ("Defaults are the preset's; `--help` shows them.", "")


def _flags(flags: list[dict[str, Any]]) -> Iterator[str]:
    for flag in flags:
        value = "" if flag["positional"] else f" {flag['value']}".rstrip()
        yield from (f"`{flag_of(flag)}{value}`", f": {_plain(about_of(flag))}", "")


def _plain(text: str) -> str:
    """Text in which Markdown sees no marks."""
    return text.replace("*", "\\*").replace("_", "\\_").replace("<", "\\<").replace("{", "\\{")


def schemas_page() -> Iterator[str]:
    """Yields the lines of the page on result files: their fields, from their JSON Schemas."""
    yield from (
        "# Result files",
        "",
        "Made from the JSON Schemas in `experiments/report/schemas`, which tests hold equal to",
        "what the commands write. `null` stands for what is not defined.",
        "",
    )
    for path in sorted(SCHEMAS.glob("*.schema.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        yield from (f"## {schema['title']}", "", *_fields(schema, schema), "")
        for name, definition in sorted(schema.get("$defs", {}).items()):
            yield from (f"### {schema['title']}: {name}", "", *_fields(definition, schema), "")


def _fields(definition: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    for name, kind in definition.get("properties", {}).items():
        yield f"- `{name}`: {_kind(kind)}"


def _kind(kind: dict[str, Any]) -> str:
    """Names the kind of a value, as in "number or null", "list of Branch"."""
    if "$ref" in kind:
        return kind["$ref"].rpartition("/")[2]
    if "anyOf" in kind:
        return " or ".join(_kind(option) for option in kind["anyOf"])
    if "enum" in kind:
        return " or ".join(f"`{value}`" for value in kind["enum"])
    name = kind.get("type", "anything")
    if isinstance(name, list):
        return " or ".join(name)
    if name == "array":
        return f"list of {_kind(kind['items'])}" if isinstance(kind.get("items"), dict) else "list"
    if name == "object" and isinstance(kind.get("additionalProperties"), dict):
        return f"mapping to {_kind(kind['additionalProperties'])}"
    return name

"""Reading results back from the JSON files of a folder."""

from pathlib import Path
from typing import TypeVar

from seedmap.errors import UserError
from seedmap.experiments.runs import folder as run_folder
from seedmap.results import from_json

Kind = TypeVar("Kind")


def read_result(kind: type[Kind], folder: Path, name: str, made_by: str) -> Kind:
    """Returns the result that a JSON file of a folder holds.

    Args:
        kind: the dataclass of the result.
        folder: of the file.
        name: of the file.
        made_by: the command that makes it, for messages.

    Raises:
        UserError: the file is missing, is not JSON, or has other fields than the result.
    """
    content = run_folder.read_json(folder, name, made_by)
    try:
        return from_json(kind, content)
    except UserError as error:
        raise UserError(f"{folder / name} {error}; make it anew with `seedmap {made_by}`") from None

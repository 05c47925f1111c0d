"""The explorer as HTML that needs no network: controls, Bokeh's script, ours, and the content."""

import json
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from seedmap.errors import UserError

_BOKEH = ("bokeh.min.js", "bokeh-api.min.js")


class Parts(NamedTuple):
    """HTML of the explorer: the map, and what goes with it; pages may have both far apart.

    Attributes:
        map: the map with its slider.
        runs: raster, curves, a run, the table of runs, and the scripts; after `map`.
    """

    map: str
    runs: str


def explorer(content: dict[str, Any]) -> Parts:
    """Returns the explorer's HTML; the page must have `style` in its head.

    Args:
        content: of `content.to_content`.

    Raises:
        UserError: Bokeh is not installed.
    """
    runs = [
        own_file("runs.html"),
        f'<script type="application/json" id="content">{_safe(content)}</script>',
        *(f"<script>{script}</script>" for script in (*_bokeh(), own_file("explorer.js"))),
    ]
    return Parts(own_file("map.html"), "\n".join(runs))


def style() -> str:
    """Returns the explorer's style sheet."""
    return own_file("explorer.css")


def own_file(name: str) -> str:
    """Returns the text of a file that is beside this module."""
    return (files("seedmap.hmm.explorer") / name).read_text(encoding="utf-8")


def _safe(content: dict[str, Any]) -> str:
    """JSON that cannot end its script, whatever a run is called; NaN and infinity are refused."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _bokeh() -> list[str]:
    """Bokeh's scripts, read without importing it, which would take a second."""
    spec = find_spec("bokeh")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the interactive page needs Bokeh: pip install bokeh")
    folder = Path(next(iter(spec.submodule_search_locations))) / "server" / "static" / "js"
    return [(folder / name).read_text(encoding="utf-8") for name in _BOKEH]

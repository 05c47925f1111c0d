"""What every figure shares: fonts, one colour per state, axis scales, saving.

Figures are made with `matplotlib.figure.Figure` and no pyplot, so that no global state is touched
and figures can be made in any thread.
"""

import colorsys
import functools
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from seedmap import files
from seedmap.errors import UserError

STYLE: dict[Any, Any] = {  # Matplotlib types the keys as the names that its version has
    "font.family": "DejaVu Sans",  # ships with matplotlib and has the arrows
    "font.size": 8.0,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "text.parse_math": False,  # a metric or run may have a dollar sign in its name
    "text.usetex": False,
    "axes.facecolor": "none",  # pages have a paper of their own
    "svg.hashsalt": "seedmap",  # the same figure is the same file
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), "#222222"),
    **dict.fromkeys(("xtick.color", "ytick.color"), "#222222"),
}
DPI = 150
WIDTH = 7.0  # inches
INK = "#222222"
GREY = "#6F6F6F"
PALE = "#E6E6E6"
PAPER = "#FDFDFD"  # behind labels; text on marks is plain white or black
MOST_NAMES = 45  # runs named on an axis
_LEGEND_COLUMNS = 9

# Four of Okabe and Ito's colours and eight chosen to stay apart from them and from each other: the
# smallest CIELAB distance within the twelve is 16, for normal sight and under simulated protanopia,
# deuteranopia and tritanopia (matrices of Machado et al. 2009, full severity). Each has a contrast
# of 3 or more (WCAG 2) with white and with the pages' dark background.
_PALETTE = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#782dff", "#96964b"),
    *("#e10fc3", "#5a6969", "#8787f0", "#a55a4b", "#785a87", "#a55aff"),
)
_GOLDEN_RATIO = 0.6180339887498949
_LUMINANCES = (0.14, 0.2, 0.27)  # contrasts of 3 or more with both, see above

P = ParamSpec("P")
Result = TypeVar("Result")
Canvas = TypeVar("Canvas", bound=FigureCanvasBase)


def state_colour(state: int) -> str:
    """Colour of a state as `#rrggbb`, the same in every figure.

    The first twelve are safe for colour-blind readers. Further ones are spread over the hues by
    the golden ratio: distinct, but not promised to be safe. All have a contrast of 3 or more with
    white and with the dark page.

    Args:
        state: Index of the state, from 0.

    Returns:
        Hex colour.
    """
    if state < len(_PALETTE):
        return _PALETTE[state]
    hue = (state * _GOLDEN_RATIO) % 1.0
    wanted = _LUMINANCES[state % len(_LUMINANCES)]
    shades = [to_hex(colorsys.hls_to_rgb(hue, level, 0.6)) for level in np.linspace(0.2, 0.8, 61)]
    return min(shades, key=lambda shade: abs(luminance(shade) - wanted))


def luminance(colour: str) -> float:
    """Relative luminance of a colour (WCAG 2): 0 is black, 1 is white."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def text_colour(background: str) -> str:
    """Black or white, whichever has the higher contrast on a background (WCAG 2)."""
    return "#000000" if (luminance(background) + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def state_colormap(num_states: int) -> tuple[ListedColormap, BoundaryNorm]:
    """Colour map and norm that send the integer k to `state_colour(k)`."""
    colormap = ListedColormap([state_colour(k) for k in range(num_states)])
    return colormap, BoundaryNorm(np.arange(num_states + 1) - 0.5, num_states)


def state_handles(num_states: int, names: Mapping[int, str] = MappingProxyType({})) -> list[Line2D]:
    """Legend entries of the states: their name, or `state 0` onwards."""
    return [
        Line2D(
            *([], []),
            marker="s",
            linestyle="",
            color=state_colour(k),
            label=f"{k} {shorten(names[k])}" if k in names else f"state {k}",
        )
        for k in range(num_states)
    ]


def styled(function: Callable[P, Result]) -> Callable[P, Result]:
    """Draw a figure under `STYLE`, leaving matplotlib's settings as they were."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Result:
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return wrapper


class Drawing(Figure):
    """A figure that a notebook shows as SVG, whatever its backend."""

    def _repr_svg_(self) -> str:
        return svg(self)


def on_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes to draw on: those given, or those of a new figure of a size in inches.

    Raises:
        UserError: `ax` is something else.
    """
    if ax is not None:
        return checked_axes(ax)
    return Drawing(figsize=(width, height), layout="constrained").add_subplot()


def checked_axes(ax: Axes) -> Axes:
    """Returns `ax`, or raises UserError where it is something else, such as a figure."""
    if not isinstance(ax, Axes):
        kind = type(ax).__name__
        raise UserError(f"ax must be one axes of matplotlib, as plt.subplots() gives; got {kind}")
    return ax


def drawn(ax: Axes, given: Axes | None) -> Figure | Axes:
    """What a function that drew on `ax` returns: the axes it was given, else its own figure."""
    return figure_of(ax) if given is None else given


def figure_of(ax: Axes) -> Figure:
    """The figure that axes are in."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def png(figure: Figure) -> bytes:
    """The figure as PNG bytes at 150 dots an inch."""
    buffer = io.BytesIO()
    with _canvas(figure, FigureCanvasAgg) as canvas:
        canvas.print_png(buffer)
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """The figure as SVG text on no background; texts are paths, so that no font is needed."""
    buffer = io.StringIO()
    with _canvas(figure, FigureCanvasSVG) as canvas:
        figure.patch.set_visible(False)
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    content = buffer.getvalue()
    return content[content.index("<svg") :]


def _pdf(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
    return buffer.getvalue()


@contextmanager
def _canvas(figure: Figure, kind: type[Canvas]) -> Iterator[Canvas]:
    """A canvas to print a figure with, once: `savefig` draws everything twice."""
    before = figure.canvas, figure.dpi, figure.patch.get_visible()
    with matplotlib.rc_context(STYLE):
        figure.dpi = DPI
        try:
            yield kind(figure)
        finally:
            canvas, figure.dpi, visible = before
            figure.set_canvas(canvas)
            figure.patch.set_visible(visible)


_WRITERS: dict[str, Callable[[Figure], bytes]] = {
    ".png": png,
    ".svg": lambda figure: svg(figure).encode(),
    ".pdf": _pdf,
}


def save(figure: Figure, path: str | Path) -> Path:
    """Write the figure as PNG (150 dots an inch), SVG or PDF, making its folder if need be.

    Args:
        figure: Figure to write.
        path: File to write, ending in `.png`, `.svg` or `.pdf`.

    Returns:
        The path written.

    Raises:
        UserError: If the path ends otherwise.
    """
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise UserError(f"figures are written as PNG, SVG or PDF: name the file {path.name}.png")
    files.make_folder(path.parent)
    files.write_bytes(path, _WRITERS[path.suffix](figure))
    return path


def shorten(name: str, length: int = 24) -> str:
    """The name, with an ellipsis in its middle where it is longer than `length` characters."""
    if len(name) <= length:
        return name
    head = length // 2
    return f"{name[:head]}…{name[head + 1 - length :]}"


def signed(value: float) -> str:
    """A number of three digits with its sign in front, as `+1.23` or `−0.04`."""
    text = f"{value:+.2f}" if abs(value) < 100 else f"{value:+.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def add_legend(figure: Figure, handles: list[Line2D]) -> None:
    """Put a legend under the axes, in as few rows as are needed."""
    rows = -(-len(handles) // _LEGEND_COLUMNS)
    columns = -(-len(handles) // rows)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def short_names(names: Sequence[str], length: int = 18) -> list[str]:
    """Names of runs for an axis: where some are too long, words that all share at an end go."""
    if all(len(name) <= length for name in names):
        return list(names)
    start = len(_common_words(names))
    rests = [name[start:] for name in names]
    end = len(_common_words([rest[::-1] for rest in rests]))
    middles = [rest[: len(rest) - end] for rest in rests]
    return ["…" * (start > 0) + shorten(middle, length) + "…" * (end > 0) for middle in middles]


def _common_words(names: Sequence[str]) -> str:
    """What all names start with, up to the last separator in it; nothing for a single name."""
    columns = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    prefix = "".join(letters[0] for letters in columns) if len(names) > 1 else ""
    return re.sub(r"[^\W_]+$", "", prefix)


def set_log_scale(ax: Axes, values: np.ndarray) -> None:
    """Make the y axis logarithmic where the values are positive and span more than a decade."""
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 10 * values.min():
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(plain_tick)
        ax.yaxis.set_minor_formatter("")


def set_wide_scale(ax: Axes, values: np.ndarray, axis: str = "y") -> None:
    """Make an axis symmetric-logarithmic where the largest value exceeds 20 medians.

    Log-likelihoods and criteria may be of either sign and reach from 1 to 1e6; a linear axis would
    show the largest only.

    Args:
        ax: Axes to scale.
        values: Numbers to be shown, any shape; non-finite ones are left out of account.
        axis: `x` or `y`.
    """
    values = values[np.isfinite(values)]
    magnitudes = np.abs(values[values != 0])
    if magnitudes.size == 0 or magnitudes.max() < 20 * np.median(magnitudes):
        return
    lowest = np.floor(np.log10(np.median(magnitudes)))
    highest = np.ceil(np.log10(magnitudes.max()))
    getattr(ax, f"set_{axis}scale")("symlog", linthresh=10.0**lowest)
    scaled = ax.xaxis if axis == "x" else ax.yaxis
    transform = scaled.get_transform()
    ends = transform.transform([values.min(), values.max()])
    margin = 0.05 * (ends[1] - ends[0])
    low, high = transform.inverted().transform([ends[0] - margin, ends[1] + margin])
    getattr(ax, f"set_{axis}lim")(low, high)
    decades = 10.0 ** np.arange(lowest, highest + 1, np.ceil((highest - lowest) / 3))
    ticks = np.concatenate([-decades[::-1], [0.0], decades])
    scaled.set_ticks(ticks[(ticks >= low) & (ticks <= high)])
    scaled.set_major_formatter(plain_tick)
    scaled.set_minor_locator(NullLocator())


def plain_tick(value: float, position: float | None = None) -> str:
    """A tick's label without mathematical markup, which `STYLE` turns off."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def name_ticks(names: Sequence[str]) -> tuple[range, list[str], float]:
    """Places, labels and font size that name runs along an axis, as many as can be read."""
    stride = -(-len(names) // MOST_NAMES)
    ticks = range(0, len(names), stride)
    labels = short_names(names)
    return ticks, [labels[i] for i in ticks], float(np.clip(200 / len(names), 4.5, 7.0))


def say_nothing_to_show(ax: Axes, message: str) -> None:
    """Write in empty axes why there is nothing in them."""
    ax.text(0.5, 0.5, message, transform=ax.transAxes, ha="center", va="center", color=GREY)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)

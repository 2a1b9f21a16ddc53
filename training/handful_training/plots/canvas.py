"""What all plots share: figure, colours, type sizes, and how a PNG is written."""

import io
import os
import threading
import warnings
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter

DPI = 144
HEADLINE = 0.58  # inches

_rendering = threading.Lock()  # warning filters belong to the process, not to a thread
INK, SOFT, FAINT = "#222222", "#6b6b6b", "#d9d9d9"

# Okabe & Ito 2008, "Color Universal Design", without black and with yellow last: it is faint.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
BLUE, VERMILION, GREEN = PALETTE[:3]


def canvas(width: float, height: float, title: str, subtitle: str) -> Figure:
    """Return an empty figure of `width` x `height` inches with a headline, ready for Agg."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    top = HEADLINE / height
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - top))
    left = 0.1 / width
    figure.text(left, 1 - 0.08 / height, title, va="top", fontsize=12, weight="bold", color=INK)
    figure.text(left, 1 - 0.34 / height, subtitle, va="top", fontsize=9, color=SOFT)
    return figure


def tidy(axes: Axes, *, grid: bool = True) -> None:
    """Take away what carries no information: the box, the ticks, heavy lines."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=SOFT)
    if grid:
        axes.grid(visible=True, color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)


def percent(decimals: int | None = None) -> PercentFormatter:
    """Return a formatter of fractions as "70 %"."""
    return PercentFormatter(1, decimals=decimals, symbol=" %")


def save(figure: Figure, path: Path) -> None:
    """Write the figure to `path` as PNG, whole or not at all."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a class may be called "$5"
        text.set_text(printable(text.get_text()))
    data = io.BytesIO()
    with (
        _rendering,
        warnings.catch_warnings(),
    ):  # a name in a script without a glyph is drawn as boxes
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(data, format="png", dpi=DPI, metadata={"Software": None})
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(data.getvalue())
    unfinished.replace(path)


def shorten(name: str, length: int = 24) -> str:
    """Return `name` in one line of at most `length` characters."""
    line = printable(" ".join(name.split()))
    return line if len(line) <= length else line[: length - 1] + "…"


def printable(text: str) -> str:
    """Return `text` with bytes that are no UTF-8 written out: no font can draw them."""
    return text.encode(errors="backslashreplace").decode()

"""A page as one HTML file that needs nothing else and can do nothing else.

Pictures are data URIs. There is no script, and the page's own Content-Security-Policy allows
none: whatever stands in a label or a file name is text.
"""

import base64
import hashlib
import io
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from handful_bundle.pixels import encode_png
from handful_training.pages.sheet import reduced, tile
from handful_training.pages.view import Page, Plot, Section, View

SHOWN = 64  # pixels that an image of a row takes on the page, about
MAX_SHEET = 1056  # pixels that a sheet is wide on the page, at most
PLOT_DENSITY = 1.6  # pixels of a plot for one of the page: they are drawn for fine screens


def render(page: Page) -> str:
    """Return the page as HTML."""
    style = _source("page.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_source),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(picture=_picture, sheet=_sheet, plot=_plot, kind=_kind)
    template = environment.get_template("page.html.j2")
    return template.render(page=page, style=style, style_digest=digest)


def _kind(section: Section) -> str:
    return type(section).__name__


def _source(name: str) -> str:
    return files("handful_training.pages").joinpath(name).read_text(encoding="utf-8")


def _picture(image: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the attributes of one image [H, W, C], enlarged by a whole factor if it is small."""
    image = reduced(image, 2 * SHOWN)
    height, width = image.shape[:2]
    side = max(height, width)
    zoom = max(1, round(SHOWN / side)) if side < 1.5 * SHOWN else 1.5 * SHOWN / side
    return _attributes(encode_png(image), height * zoom, width * zoom)


def _sheet(view: View) -> dict[str, Any]:
    """Return the attributes of a view that is one picture."""
    columns = len(view.strips[0].images)
    side = 3 * MAX_SHEET // (2 * columns)  # finer than shown, for screens with small dots
    images = np.stack([[reduced(i, side) for i in strip.images] for strip in view.strips])
    height, width = images.shape[2:4]
    gap = 0 if view.columns else max(1, width // 14)
    data, down, across = tile(images, gap)
    zoom: float = max(1, round(0.8 * SHOWN / max(height, width)))
    zoom = min(zoom, MAX_SHEET / (columns * (width + gap)))
    return _attributes(data, down * zoom, across * zoom)


def _plot(plot: Plot) -> dict[str, Any]:
    """Return the attributes of a plot, as wide as its letters want."""
    with Image.open(io.BytesIO(plot.png)) as image:
        width, height = image.size
    return _attributes(plot.png, height / PLOT_DENSITY, width / PLOT_DENSITY)


def _attributes(png: bytes, height: float, width: float) -> dict[str, Any]:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return {"src": source, "height": round(height), "width": round(width)}

"""What a page shows: views of named rows of images, numbers, bars, plots. Knows no HTML."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Strip:
    """A row of images.

    Attributes:
        name: what the row is; short.
        images: uint8 [S, H, W, C], S >= 1; rows of one view have equal H, W, C.
        note: a second, fainter line below the name.
        alt: what each image shows, [S], for those who do not see it; by default the row's name.
    """

    name: str
    images: NDArray[np.uint8]
    note: str = ""
    alt: Sequence[str] = ()


@dataclass(frozen=True)
class View:
    """Rows of images that belong together: a section of the page, and a PNG file.

    Attributes:
        key: stem of the file's name.
        title: the section's.
        caption: one line that explains the PNG file by itself.
        text: what is seen, to somebody who knows no VAE; blank lines divide paragraphs.
        strips: at least one.
        columns: headings of the columns; none, or one per image of the longest strip.
        sheet: show all as one picture, whose parts mean nothing by themselves. Its strips are of
            one length.
        alt: of the sheet, which has no other names.
    """

    key: str
    title: str
    caption: str
    text: str
    strips: tuple[Strip, ...]
    columns: tuple[str, ...] = ()
    sheet: bool = False
    alt: str = ""


@dataclass(frozen=True)
class Table:
    """Numbers, written out. The first column names the row."""

    title: str
    text: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Bar:
    """A row of a table with a value between 0 and 1, drawn beside its numbers.

    Attributes:
        name: of the row.
        note: a second, fainter line below the name.
        value: what is drawn, a fraction.
        interval: its lower and upper end, drawn as a line.
        cells: what is written, the value first; one per column.
        marked: it is the row that the page is about.
    """

    name: str
    note: str
    value: float
    interval: tuple[float, float]
    cells: tuple[str, ...]
    marked: bool = False


@dataclass(frozen=True)
class Bars:
    """Fractions as bars with their intervals. Whatever is drawn is written too.

    Attributes:
        title: the section's.
        text: as a view's.
        header: names of the cells.
        rows: in order.
    """

    title: str
    text: str
    header: tuple[str, ...]
    rows: tuple[Bar, ...]


@dataclass(frozen=True)
class Plot:
    """A plot that was drawn elsewhere.

    Attributes:
        title: the section's.
        text: as a view's.
        png: the file's content.
        alt: what it shows, for those who do not see it.
    """

    title: str
    text: str
    png: bytes
    alt: str


@dataclass(frozen=True)
class Text:
    """Words alone."""

    title: str
    text: str


Section = View | Table | Bars | Plot | Text


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        title: its headline.
        lead: one or two sentences below it.
        facts: what the page was made from, as (name, value).
        sections: in order.
    """

    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]

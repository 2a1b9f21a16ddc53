"""What a page shows: views of named rows of images, and tables of numbers. Knows no HTML."""

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
    sections: tuple[View | Table, ...]

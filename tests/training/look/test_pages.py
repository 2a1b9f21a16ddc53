"""The page: whole, inert, and readable without seeing it."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from handful_training.errors import InputError
from handful_training.pages.html import render
from handful_training.pages.sheet import reduced, tile
from handful_training.pages.view import Page, Strip, Table, View
from handful_training.pages.write import check_folder, write_page

HOSTILE = "</style><script>alert(1)</script>\"'><img src=//evil onerror=alert(1)> {{ 7*7 }} \udcff"
RNG = np.random.default_rng(0)
VOID = {"meta", "img", "br", "link"}


class Reader(HTMLParser):
    """Collects elements, and checks that each is closed where it should be."""

    def __init__(self):
        super().__init__()
        self.open, self.found, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def read(html):
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def images(rows=1, channels=1):
    return RNG.integers(0, 256, (rows, 8, 6, channels), np.uint8)


@pytest.fixture(scope="module")
def page():
    """A page on which everything that can be named is called something hostile."""
    sheet = View(
        "sheet", "Sheet", "a sheet", HOSTILE, (Strip("", images(3)), Strip("", images(3))),
        sheet=True, alt=HOSTILE,
    )  # fmt: skip
    strips = (Strip(HOSTILE, images(2), HOSTILE, [HOSTILE] * 2), Strip("plain", images(1)))
    view = View("view", HOSTILE, HOSTILE, f"one\n\n{HOSTILE}", strips, (HOSTILE, "second"))
    table = Table(HOSTILE, "text", ("", HOSTILE), (("row", HOSTILE),))
    return Page(HOSTILE, HOSTILE, (("fact", HOSTILE),), (view, table, sheet))


def test_hostile_names_are_text(page):
    """Script in a name, a label or a heading is shown as it is: no element and no handler."""
    reader = read(render(page))
    assert {tag for tag, _ in reader.found} <= {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "p", "dl", "div", "dt",
        "dd", "nav", "ul", "li", "a", "main", "section", "h2", "table", "thead", "tbody", "tr",
        "td", "th", "small", "img",
    }  # fmt: skip
    assert not [name for _, found in reader.found for name in found if name.startswith("on")]
    assert reader.text.count("{{ 7*7 }}") >= 8
    assert "49" not in reader.text


def test_the_page_is_by_itself_and_allows_nothing(page):
    """Nothing is fetched from anywhere, no attribute styles, and the policy forbids script and
    allows just this style sheet.
    """
    html = render(page)
    reader = read(html)
    assert all(found["src"].startswith("data:image/png;base64,") for found in reader.all("img"))
    assert all(found["href"].startswith("#s") for found in reader.all("a"))
    assert not [found for _, found in reader.found if "style" in found or "src" in found.keys() - {
        "src"}]  # fmt: skip
    (style,) = re.findall("<style>(.*?)</style>", html, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = (m["content"] for m in reader.all("meta") if "http-equiv" in m)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )


def test_every_image_has_words(page):
    """Each image has an alternative text and its size; headings lead to their sections."""
    reader = read(render(page))
    assert len(reader.all("img")) == 4
    for found in reader.all("img"):
        assert found["alt"]
        assert int(found["width"]) > 0
        assert int(found["height"]) > int(found["width"]) or "sheet" in found.get("class", "")
    targets = {found["id"] for found in reader.all("h2")}
    assert {found["href"][1:] for found in reader.all("a")} == targets
    assert {found["aria-labelledby"] for found in reader.all("section")} == targets
    assert {found.get("scope") for found in reader.all("th")} == {"row", "col"}


def _luminance(colour):
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    ]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_text_stands_out(page):
    """In light and in dark every text colour has a contrast of 7 to 1 or more (WCAG 2, AAA)."""
    schemes = re.findall(r"--ground.*?--line: #\w+", render(page), re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for ink in ("ink", "soft"):
            for ground in ("ground", "raised"):
                pair = sorted(_luminance(colours[name]) + 0.05 for name in (ink, ground))
                assert pair[1] / pair[0] >= 7 or (ink == "soft" and pair[1] / pair[0] >= 6.5)


def test_pictures_are_the_pixels(page):
    """An image on the page is the very image, to the last value."""
    found = read(render(page)).all("img")[0]["src"].partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(found))) as image:
        expected = page.sections[0].strips[0].images[0, ..., 0]
        np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_has_each_image_at_its_place(channels):
    """Image (r, s) of a sheet stands in row r and column s; between them it is transparent."""
    grid = RNG.integers(0, 256, (2, 3, 5, 4, channels), np.uint8)
    data, height, width = tile(grid, 2)
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image)
    assert pixels.shape[:2] == (height, width) == (2 * 5 + 2, 3 * 4 + 4)
    for r in range(2):
        for s in range(3):
            part = pixels[r * 7 : r * 7 + 5, s * 6 : s * 6 + 4]
            np.testing.assert_array_equal(part[..., :-1], grid[r, s])
            assert (part[..., -1] == 255).all()
    assert (pixels[5:7, :, -1] == 0).all()


def test_large_images_are_averaged_down():
    """An image larger than it is shown becomes a mean of blocks of itself; a small one stays."""
    image = RNG.integers(0, 256, (40, 20, 3), np.uint8)
    assert reduced(image, 40) is image
    found = reduced(image, 15)
    assert found.shape == (14, 7, 3)
    np.testing.assert_allclose(found[0, 0], image[:3, :3].mean((0, 1)), atol=1)
    assert reduced(image[..., :1], 20).shape == (20, 10, 1)


def test_a_page_of_large_images_stays_small():
    """A page of images of 512 x 512 holds them as large as they are shown on a fine screen."""
    large = RNG.integers(0, 256, (8, 512, 512, 3), np.uint8)
    strips = tuple(Strip("row", large) for _ in range(4))
    views = [View("a", "A", "", "", strips), View("b", "B", "", "", strips, sheet=True, alt="b")]
    html = render(Page("title", "lead", (), tuple(views)))
    assert len(html) < 0.15 * (2 * 32 * large[0].size)
    for found in read(html).all("img"):
        assert int(found["width"]) <= 1056


def test_everything_is_written(page, tmp_path):
    """The folder holds the page and a PNG for each view, and is made if need be; written again,
    the bytes are the same and what else lies there stays.
    """
    folder = tmp_path / "new"
    written = write_page(page, folder)
    assert [path.name for path in written] == ["index.html", "view.png", "sheet.png"]
    before = {path: path.read_bytes() for path in written}
    (folder / "notes.txt").write_text("mine")
    write_page(page, folder)
    assert {path: path.read_bytes() for path in written} == before
    assert len(list(folder.iterdir())) == 4
    for path in written[1:]:
        with Image.open(path) as image:
            assert len(image.convert("L").getcolors(256) or range(999)) > 10


def test_a_bad_output_is_refused_before_any_work(tmp_path):
    """A file, or a folder in no folder, is refused; a new folder in one is fine."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "a" / "b"):
        with pytest.raises(InputError, match="-o"):
            check_folder(path)
    for path in (None, tmp_path, tmp_path / "new"):
        check_folder(path)

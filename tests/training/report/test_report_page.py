"""The page of a report: the verdict first, all numbers, nothing that is not there."""

import base64
import hashlib
import io
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from handful_bundle.manifest import ImageSpec, Manifest, Provenance
from handful_training.errors import InputError
from handful_training.ladder.catalogue import ENTRIES
from handful_training.pages.html import render
from handful_training.pages.write import check_file, write_file
from handful_training.report.findings import (
    NUMBERS,
    PICTURES,
    PLOT,
    Data,
    Findings,
    Novelty,
    Pictures,
    Sets,
    Shown,
    load,
    store,
)
from handful_training.report.page import report_page
from handful_training.report.verdict import verdict

HOSTILE = "</style><script>alert(1)</script>{{ 7*7 }}"
VOID = {"meta", "img", "br", "link", "rect"}


class Reader(HTMLParser):
    """Collects elements and text, and checks that each element is closed where it should be."""

    def __init__(self):
        super().__init__()
        self.open, self.found, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"style", "title"}:
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def read(html):
    reader = Reader()
    reader.feed(html)
    assert reader.open == []
    return reader


def picture(seed=0, side=40):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, 2 * side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return np.frombuffer(file.getvalue(), np.uint8)


@pytest.fixture(scope="module")
def manifest():
    digest = "sha256:" + "0" * 64
    return Manifest(
        name="parts", created=datetime(2026, 11, 22, 12, tzinfo=UTC), space=digest,
        image=ImageSpec(height=16, width=16, channels=3), pixels_version=1, embedding_dim=4,
        latent_dim=2, files={"encoder.onnx": digest}, metrics={"neg_elbo_nats": 123.4},
        provenance=Provenance(run_id="abc", seed=5, versions={"torch": "2.13.0"}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def full(made):
    """Findings in which nothing is missing, and something hostile wherever a user names things."""
    findings = made(26, 2, 5, 7)
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    pictures = Pictures({"novel": images[:10], "suggested": images[:3]})
    for stem in ("reliability", "confusion_matrix", "embedding_map", "samples", "learning_curve"):
        pictures[PLOT + stem] = picture()
    data = findings.data.model_copy(update={"source": HOSTILE, "classes": {HOSTILE: 40}})
    return findings.model_copy(
        update={
            "data": data,
            "sets": Sets(
                level=0.9, threshold=0.8, count=40, coverage=0.925, coverage_ci=(0.8, 0.98),
                mean_size=1.6, n=40,
            ),
            "novelty": Novelty(
                method="knn", threshold=0.97, false_alarm_rate=0.01, above=0.012, n=5000
            ),
            "curve": {"sentence": "The next 10 labels are expected to bring 2 points."},
            "novel": tuple(Shown(key=f"{HOSTILE}{i}.png", note="novelty 0.99") for i in range(10)),
            "suggested": tuple(Shown(key=f"{i}.png", note="stands for 12") for i in range(3)),
        }
    ), pictures  # fmt: skip


def test_the_verdict_stands_first(full, manifest):
    """The first paragraph below the headline is the verdict, and nothing but the verdict."""
    html = render(report_page("parts", "3", manifest, *full))
    (lead,) = re.findall(r'<p class="lead">(.*?)</p>', html, re.DOTALL)
    assert lead.strip() == verdict(full[0]).sentence
    assert html.index('class="lead"') < html.index("<h2")


def test_every_rung_is_drawn_and_written(full, manifest):
    """Each rung has its name, its accuracy in figures and as long a bar as that, and its interval;
    what is drawn is hidden from who cannot see it, for the figures stand beside it.
    """
    findings, pictures = full
    reader = read(render(report_page("parts", "3", manifest, findings, pictures)))
    text = " ".join(reader.text)
    bars = [r for r in reader.all("rect") if r["class"] == "bar"]
    spans = [r for r in reader.all("rect") if r["class"] == "span"]
    rungs = findings.ladder.rungs
    assert len(bars) == len(spans) == len(rungs)
    for bar, span, (key, scores) in zip(bars, spans, rungs.items(), strict=True):
        assert ENTRIES[key].title in text
        assert f"{100 * scores.accuracy:.1f} %" in text
        assert float(bar["width"]) == pytest.approx(100 * scores.accuracy, abs=0.01)
        low, high = scores.accuracy_ci
        assert float(span["x"]) == pytest.approx(100 * low, abs=0.01)
        assert float(span["width"]) == pytest.approx(100 * (high - low), abs=0.02)
    assert all(svg["aria-hidden"] == "true" for svg in reader.all("svg"))
    assert "7.5" in text  # points against the control


def test_the_page_needs_and_allows_nothing_else(full, manifest):
    """All pictures are in the file, each with words; no script, no style but the page's own, and
    what a user called something hostile is text.
    """
    html = render(report_page(HOSTILE, "3", manifest, *full))
    reader = read(html)
    assert not reader.all("script")
    assert not [a for _, attributes in reader.found for a in attributes if a == "style"]
    assert not [a for _, attributes in reader.found for a in attributes if a.startswith("on")]
    images = reader.all("img")
    assert len(images) == 10 + 3 + 5
    assert all(i["src"].startswith("data:image/png;base64,") and i["alt"] for i in images)
    (style,) = re.findall("<style>(.*?)</style>", html, re.DOTALL)
    assert "url(" not in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"sha256-{digest}" in html
    assert "49" not in "".join(reader.text).replace("{{ 7*7 }}", "")[:200]
    assert " ".join(reader.text).count("{{ 7*7 }}") >= 4


def test_all_that_was_found_is_said(full, manifest):
    """Coverage, novelty, the learning curve's sentence, data and origin stand on the page."""
    text = " ".join(" ".join(read(render(report_page("parts", "3", manifest, *full))).text).split())
    for said in (
        "92.5 %", "1.6 classes", "On the same images", "5,000", "1.2 %",
        "The next 10 labels are expected to bring 2 points.", "123.4 nats", "torch 2.13.0",
        "16 × 16 × 3", "handful-train suggest parts IMAGES -n 3", "unreadable, left out",
    ):  # fmt: skip
        assert said.lower() in text.lower(), said


def test_what_was_not_found_is_no_empty_section(manifest):
    """Without labels there is still a page: the data, the origin, and why nothing was measured."""
    data = Data(source="x", images=90, rejected=0, duplicates=0, shape=(8, 8, 1))
    page = report_page("parts", None, manifest, Findings(data=data), Pictures())
    titles = [section.title for section in page.sections]
    assert titles == [
        "Accuracy on the same labels", "The data", "Provenance", "How to read this page",
    ]  # fmt: skip
    assert "Not measured" in page.lead
    read(render(page))


def test_sets_without_a_threshold_say_how_many_labels_are_needed(full, manifest):
    """Below the number of labels that a set needs, the page says so and claims no coverage."""
    findings, pictures = full
    none = findings.sets.model_copy(update={"threshold": None, "count": 5})
    few = findings.model_copy(update={"sets": none})
    page = report_page("parts", "3", manifest, few, pictures)
    (text,) = (s.text for s in page.sections if s.title == "Sets of classes")
    assert "needs 9 labels or more" in text
    assert "there are 5" in text
    assert "92.5" not in text


def test_what_is_stored_is_what_is_read(full, tmp_path, manifest):
    """A page from the stored files is the page itself, to the last byte."""
    findings, pictures = full
    store(findings, pictures, tmp_path)
    again = load(tmp_path / NUMBERS, tmp_path / PICTURES)
    assert again[0] == findings
    assert render(report_page("parts", "3", manifest, *again)) == render(
        report_page("parts", "3", manifest, findings, pictures)
    )


@pytest.mark.parametrize("damage", ["numbers", "format", "pictures"])
def test_a_report_that_cannot_be_read_is_told_with_the_remedy(full, tmp_path, damage):
    """Damaged files and those of another format name the command that measures anew."""
    store(*full, tmp_path)
    if damage == "pictures":
        (tmp_path / PICTURES).write_bytes(b"nothing")
    else:
        text = (tmp_path / NUMBERS).read_text()
        changed = text[:50] if damage == "numbers" else text.replace('"format": 1', '"format": 2')
        assert changed != text
        (tmp_path / NUMBERS).write_text(changed)
    with pytest.raises(InputError, match=r"handful-train report NAME --images IMAGES --labels"):
        load(tmp_path / NUMBERS, tmp_path / PICTURES)


def test_a_bad_output_is_refused_before_any_work(tmp_path):
    """A folder, or a file in no folder, is refused; none and a new file are fine."""
    for path in (tmp_path, tmp_path / "no" / "report.html"):
        with pytest.raises(InputError, match="-o"):
            check_file(path)
    for path in (None, tmp_path / "report.html"):
        check_file(path)


def test_the_file_is_written_whole(full, tmp_path, manifest):
    """The page replaces an old file of its name, and leaves nothing else in the folder."""
    path = tmp_path / "report.html"
    path.write_text("old")
    page = report_page("parts", "3", manifest, *full)
    write_file(page, path)
    assert path.read_text() == render(page)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]

"""`handful-train report` on a real small model: from what the run stored, and measured anew."""

import json
import re
import shutil
from pathlib import Path

import pytest

VAE = {"vae_linear", "vae_graph", "vae_both", "vae_served"}
CONTROLS = {"pixels_nearest", "pixels_linear", "pixels_graph", "pixels_graph_whitened"}


@pytest.fixture(scope="module")
def reported(place, trained, tmp_path_factory):
    """What the command says of the trained model, in a place that has no images and no pack."""
    empty = tmp_path_factory.mktemp("elsewhere")
    done = place.train(
        "report", "parts", "-o", empty / "report.html", "--json", HANDFUL_WORK=str(empty / "work")
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), (empty / "report.html").read_text(encoding="utf-8"), empty


def test_the_name_alone_is_enough(reported, trained):
    """Neither images nor a work folder is needed: the page says what the run's own page says."""
    said, html, empty = reported
    assert html == Path(trained["report"]).read_text(encoding="utf-8")
    assert said["verdict"] == trained["verdict"]
    assert said["report"] == str(empty / "report.html")
    assert not list((empty / "work").glob("packs"))


def test_every_way_is_measured_on_the_labels_that_were_left_over(reported, trained):
    """All controls and all ways with the encoder answer for the same 96 unused labels, and what is
    served reached what the run reported.
    """
    ladder = reported[0]["ladder"]
    assert set(ladder["rungs"]) == VAE | CONTROLS
    assert {scores["n"] for scores in ladder["rungs"].values()} == {96}
    assert ladder["on"] == "unused labels"
    served = ladder["rungs"][ladder["served"]]
    assert served["accuracy"] == trained["accuracy"]
    assert served["log_loss"] == pytest.approx(trained["log_loss"])
    assert set(ladder["against"]) == set(ladder["rungs"]) - {"vae_served"}


def test_the_page_shows_what_the_numbers_say(reported):
    """The verdict is its first paragraph; each accuracy is written; images stand in the page, and
    it names no place on this machine.
    """
    said, html, _ = reported
    (lead,) = re.findall(r'<p class="lead">(.*?)</p>', html, re.DOTALL)
    assert lead.strip() == said["verdict"]
    for scores in said["ladder"]["rungs"].values():
        assert f"{100 * scores['accuracy']:.1f} %" in html
    assert html.count("data:image/png;base64,") >= 20
    for title in ("What to label next", "How far its confidence holds", "Samples", "The data",
                  "Map of the embeddings", "Provenance"):  # fmt: skip
        assert f">{title}</h2>" in html
    assert "unreadable, left out" in html
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert "<td>photos</td>" in html
    assert "/tmp/" not in html


def test_it_is_an_artifact_of_the_run(place, trained):
    """The run in MLflow holds the page, its numbers and its pictures."""
    (page,) = place.root.glob(f"mlartifacts/**/{trained['run_id']}/artifacts/report/report.html")
    assert page.read_text(encoding="utf-8") == Path(trained["report"]).read_text(encoding="utf-8")
    assert {path.name for path in page.parent.iterdir()} == {
        "report.html", "findings.json", "pictures.npz",
    }  # fmt: skip


def test_measured_anew_with_all_labels_it_is_out_of_fold(place, trained):
    """With every label and none left over each image is predicted without its own label, and
    nothing is registered.
    """
    output = place.root / "anew.html"
    said = place.result(
        "report", "parts", "--images", place.images, "--labels", "folders", "-o", output
    )
    assert said["ladder"]["on"] == "out of fold"
    assert {scores["n"] for scores in said["ladder"]["rungs"].values()} == {120}
    assert said["version"] == trained["version"]
    assert said["verdict"] in output.read_text(encoding="utf-8")
    known = place.result("report", "parts")
    assert known["version"] == trained["version"]


def test_bad_usage_is_one_line(place, trained):
    """A folder as output, labels of no images, an unknown model: one line with the remedy."""
    for arguments, words in (
        (("parts", "-o", place.root), "name a file"),
        (("parts", "--labels", "folders"), "--images"),
        (("nobody",), "nobody"),
    ):
        done = place.train("report", *arguments)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert words in done.stderr


def test_a_head_for_other_labels_has_a_report_of_its_own(place, trained, tmp_path):
    """`head` stores a report too, with the pictures of the encoder that it did not train."""
    labels = tmp_path / "few"
    for name in ("bolt", "nut"):
        for file in sorted((place.images / name).iterdir())[:3]:
            (labels / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, labels / name)
    fitted = place.result("head", "parts", place.images, "--labels", labels)
    said = place.result("report", f"parts/{fitted['version']}", "-o", tmp_path / "report.html")
    assert said["ladder"]["on"] == "out of fold"
    assert said["verdict"].startswith("Cannot tell with 6 labels")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ">Samples</h2>" in html
    assert ">What the code keeps</h2>" in html
    if not fitted["promoted"]:
        return
    place.result("promote", "parts", trained["version"])  # as the other tests expect it

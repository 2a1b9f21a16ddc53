"""`explore`: from a registered version to a page, its pictures and a run."""

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handful_bundle.bundle import Bundle
from handful_training.errors import InputError
from handful_training.explore import views
from handful_training.explore.page import explore_page
from handful_training.explore.pool import encode_pool
from handful_training.explore.views import chain, pairs
from handful_training.labels.choice import LabelChoice
from handful_training.pages.html import render
from handful_training.pipeline.explore import Ends, explore
from handful_training.tracking import Tracker

VIEWS = ["reconstructions", "traversals", "class_samples", "interpolations", "plane", "samples"]


class Text(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.text, self.alts, self.tags = "", [], set()
        self.feed(Path(path).read_text())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.alts.append(dict(attrs)["alt"])

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def run(home):
    """`explore` with its options left out, but for those given."""

    def call(name="animals", images=None, labels=None, ends=None, output=None, seed=0):
        choice = None if labels is None else LabelChoice(labels)
        where = str(home.images) if images else None
        return explore(name, where, choice, ends or Ends(), output=output, seed=seed, device="cpu")

    return call


def test_without_images_the_golden_ones_serve(run, tmp_path):
    """A bundle alone gives every view, made of its golden images."""
    said = run(output=tmp_path / "out")
    assert said["images"] == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "index.html", *(f"{view}.png" for view in VIEWS),
    }  # fmt: skip
    page = Text(said["page"])
    assert "golden image 0" in page.alts
    assert said["active_dimensions"] == 4


def test_images_and_labels_are_shown(run, labels, tmp_path):
    """With images and labels, draws of a class stand beside images that bear its label, and
    nothing that is named like script becomes one.
    """
    said = run(images=True, labels="folders", output=tmp_path)
    assert said["images"] == 60
    page = Text(said["page"])
    assert "script" not in page.tags
    for label in labels:
        assert label in page.text
        assert any(alt.startswith(f"{label}/=image&") for alt in page.alts)
    assert "bear its label" in page.text


def test_the_run_keeps_everything(run, home, tmp_path):
    """A run called "explore" holds the version, the figures and every file, not what else lies in
    the folder; the same seed writes the same bytes.
    """
    (tmp_path / "notes.txt").write_text("mine")
    said = run(output=tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert run(output=tmp_path) == said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    tracker = Tracker.open()
    experiment = tracker._store.client.get_experiment_by_name("handful/animals")
    found = tracker._store.client.search_runs(
        [experiment.experiment_id], "attributes.run_name = 'explore'"
    )[0]
    assert found.data.params["version"] == "1"
    assert found.data.metrics["rate"] == pytest.approx(said["rate_nats"])
    kept = {
        item.path for item in tracker._store.client.list_artifacts(found.info.run_id, "explore")
    }
    assert kept == {f"explore/{name}" for name in files.keys() - {"notes.txt"}}


def test_chosen_images_are_interpolated(run, home, labels, tmp_path):
    """Two images of the pool by their keys, or files, are the ends; of three files each two are,
    and the plane goes through all three.
    """
    keys = (f"{labels[0]}/=image&03.png", f"{labels[1]}/=image&07.png")
    page = Text(run(images=True, ends=Ends(keys=keys), output=tmp_path)["page"])
    assert [alt for alt in page.alts if alt in keys][-2:] == list(keys)
    files = tuple(home.images / label / "=image&00.png" for label in labels)
    said = run(ends=Ends(files=files), output=tmp_path)
    page = Text(said["page"])
    names = [f"{label}/=image&00.png" for label in labels]  # one name alone would not do
    shown = [alt for alt in page.alts if alt in names]
    assert shown == [names[0], names[1], names[1], names[2], names[2], names[0]]
    assert "The plane through three images" in page.text


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"name": "blind"}, "no decoder"),
        ({"name": "nobody"}, "nobody"),
        ({"labels": "folders"}, "give these after NAME"),
        ({"ends": Ends(keys=("a", "b"))}, "give these after NAME"),
        ({"ends": Ends(files=(Path("x.png"),))}, "two or three"),
        ({"ends": Ends(files=(Path("x.png"),) * 4)}, "two or three"),
        ({"ends": Ends(files=(Path("x.png"),) * 2)}, "x.png: No such file"),
        ({"ends": Ends(files=(Path(__file__),) * 2)}, "not a JPEG, PNG or WebP"),
        ({"images": True, "ends": Ends(keys=("a", "b"))}, "a: no readable image"),
        ({"output": Path("no/such/place")}, "-o"),
    ],
)
def test_bad_input_is_refused(run, options, remedy):
    """What cannot be done is an `InputError` that says what was found."""
    with pytest.raises(InputError, match=re.escape(remedy)):
        run(**options)


def test_labels_must_be_those_of_the_head(run, home, tmp_path):
    """Labels that the head does not know are named."""
    table = tmp_path / "labels.csv"
    with table.open("w", newline="") as file:
        rows = [("path", "label"), *((f"cat/=image&{i:02}.png", "mouse") for i in range(3))]
        csv.writer(file).writerows(rows)
    with pytest.raises(InputError, match="mouse"):
        run(images=True, labels=str(table))


def test_pairs_are_of_different_classes(bundle_dir):
    """Drawn pairs join different classes where these are known, use no image twice, and are the
    same for the same seed; three chosen images make three pairs, two one.
    """
    bundle = Bundle.load(bundle_dir, device="cpu", threads=1)
    images = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), np.uint8)
    target = np.arange(10) % 2
    pool = encode_pool(bundle, images, tuple(map(str, range(10))), target)
    found = pairs(pool, seed=0)
    used = [end.name for pair in found for end in pair]
    assert len(used) == len(set(used)) == 8
    assert all(int(a.name) % 2 != int(b.name) % 2 for a, b in found)
    assert [a.name for a, _ in pairs(pool, seed=0)] == [a.name for a, _ in found]
    one = encode_pool(bundle, images[:1], ("0",))
    assert pairs(one, seed=0) == []
    a, b, c = (pair[0] for pair in found[:3])
    assert chain([a, b]) == [(a, b)]
    assert chain([a, b, c]) == [(a, b), (b, c), (c, a)]


def test_traversals_vary_one_dimension(bundle_dir):
    """In row z of the traversals just dimension z varies, from −3 to +3; rows stand by KL; a
    collapsed model has no such section, and one image no plane.
    """
    bundle = Bundle.load(bundle_dir, device="cpu", threads=1)
    images = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
    pool = encode_pool(bundle, images, tuple(map(str, range(9))))
    page = explore_page("animals", bundle, pool, [], facts=(), seed=0)
    (view,) = (section for section in page.sections if section.key == "traversals")
    order = np.argsort(-pool.kl)
    assert [strip.name for strip in view.strips] == [f"z{d}" for d in order]
    for strip, dimension in zip(view.strips, order, strict=True):
        latents = np.tile(pool.mean[pool.typical], (11, 1))
        latents[:, dimension] = np.linspace(-3, 3, 11)
        np.testing.assert_array_equal(strip.images, bundle.decoder(latents).images)
    pool.kl[:] = 0
    page = explore_page("animals", bundle, pool, [], facts=(), seed=0)
    assert "traversals" not in [section.key for section in page.sections]
    alone = encode_pool(bundle, images[:1], ("0",))
    keys = [s.key for s in explore_page("animals", bundle, alone, [], facts=(), seed=0).sections]
    assert keys == ["reconstructions", "traversals", "class_samples", "samples"]
    assert render(page)


def test_grids_are_decoded_in_parts(bundle_dir, monkeypatch):
    """Decoded in small parts, each latent's image stands at its place all the same."""
    decoder = Bundle.load(bundle_dir, device="cpu", threads=1).decoder
    latents = np.random.default_rng(0).standard_normal((3, 5, 4)).astype(np.float32)
    whole = views.decode(decoder, latents)
    monkeypatch.setattr(views, "LIKELIHOOD_BYTES", 24 * 256 * 2)
    np.testing.assert_array_equal(views.decode(decoder, latents), whole)
    np.testing.assert_array_equal(whole[2, 3], decoder(latents[2, 3][None]).images[0])


def test_the_command_prints_one_object(home, tmp_path):
    """As a process: one JSON object on stdout, pictures in the folder."""
    command = [sys.executable, "-m", "handful_training.cli", "explore"]
    place = {"cwd": tmp_path, "capture_output": True, "text": True}
    done = subprocess.run([*command, "animals/1", "-o", "out", "--json"], check=False, **place)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["page"] == "out/index.html"
    for view in VIEWS:
        with Image.open(tmp_path / "out" / f"{view}.png") as picture:
            assert min(picture.size) > 200

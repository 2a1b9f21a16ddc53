"""The plots: PNG files that are whole, reproducible and true to their numbers."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from handful_training import plots
from handful_training.plots.canvas import shorten
from handful_training.plots.embedding_map import MAX_POINTS, _choose, project

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 255, (6, 16, 16, 1), dtype=np.uint8)
COLOUR = RNG.integers(0, 255, (11, 20, 32, 3), dtype=np.uint8)
ODD_NAMES = ("$5 bill", "$\\frac", "猫", "a\nb \udcff", "x" * 500)
HISTORY = [
    {"epoch": e, "neg_elbo": 300 / e, "distortion": 280 / e, "rate": 20 / e, "invariance": 2 / e}
    for e in (1, 2, 3)
]
EMBEDDING = RNG.normal(size=(30, 8)).astype(np.float32)
MATRIX = RNG.integers(0, 9, (5, 5))
PROBABILITIES = RNG.dirichlet(np.ones(5), 60)
TARGET = RNG.integers(0, 5, 60)

DRAWINGS = {
    "reconstructions": lambda path: plots.reconstructions(IMAGES, IMAGES[::-1], path),
    "reconstructions in colour": lambda path: plots.reconstructions(COLOUR, COLOUR, path),
    "one reconstruction": lambda path: plots.reconstructions(IMAGES[:1], IMAGES[:1], path),
    "samples": lambda path: plots.samples(COLOUR, path),
    "one sample": lambda path: plots.samples(IMAGES[:1], path),
    "traversals": lambda path: plots.traversals(
        IMAGES.reshape(2, 3, 16, 16, 1), np.array([7, 3]), np.array([1.5, 0.2]), path
    ),
    "strips": lambda path: plots.strips(
        COLOUR[:10].reshape(5, 2, 20, 32, 3),
        path,
        title="\udcff",
        subtitle="$",
        names=ODD_NAMES,
        columns=ODD_NAMES[:2],
    ),
    "tight strips": lambda path: plots.strips(
        IMAGES.reshape(3, 2, 16, 16, 1),
        path,
        title="Strips",
        subtitle="two",
        names=("a", "b", "c"),
        tight=True,
    ),
    "learning curves": lambda path: plots.learning_curves(HISTORY, path),
    "learning curves of one epoch": lambda path: plots.learning_curves(HISTORY[:1], path),
    "learning curves of no epoch": lambda path: plots.learning_curves([], path),
    "KL per dimension": lambda path: plots.kl_per_dimension(np.geomspace(2, 1e-5, 40), path),
    "KL of collapsed dimensions": lambda path: plots.kl_per_dimension(np.zeros(1), path),
    "confusion matrix": lambda path: plots.confusion_matrix(MATRIX, ODD_NAMES, path),
    "confusion matrix of no image": lambda path: plots.confusion_matrix(
        np.zeros((2, 2), int), ("a", "b"), path
    ),
    "reliability": lambda path: plots.reliability(PROBABILITIES, TARGET, path),
    "reliability of one": lambda path: plots.reliability(PROBABILITIES[:1], TARGET[:1], path),
    "prediction sets": lambda path: plots.prediction_set_sizes(
        PROBABILITIES > 0.1, TARGET, path, level=0.9, calibrated_here=False
    ),
    "prediction sets of one image": lambda path: plots.prediction_set_sizes(
        np.ones((1, 200), bool), TARGET[:1], path, level=0.9, calibrated_here=True
    ),
    "accuracy by labels": lambda path: plots.accuracy_by_labels(
        [plots.Line(n, (5, 10, 90), (0.2, 0.5, 1), (0.1, 0.4, 0.8), (0.3, 0.6, 1)) for n in "abc"],
        path,
        sentence="$",
        law=(np.arange(1, 9), np.linspace(0, 1, 8)),
    ),
    "accuracy by labels at one size": lambda path: plots.accuracy_by_labels(
        [plots.Line("\udcff", (5,), (0.2,), (0.1,), (0.3,))], path, sentence="too few"
    ),
    "map": lambda path: plots.embedding_map(
        EMBEDDING, path, target=np.arange(30) % 6 - 1, names=ODD_NAMES
    ),
    "map without labels": lambda path: plots.embedding_map(EMBEDDING, path),
    "map of one": lambda path: plots.embedding_map(EMBEDDING[:1], path),
    "map by t-SNE": lambda path: plots.embedding_map(
        np.repeat(EMBEDDING, 3, axis=0), path, target=np.arange(90) % 2, names=("a", "b")
    ),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS.keys())
def test_draws_a_whole_png(draw, tmp_path):
    """Each plot, with the fewest and the oddest data too, is a readable PNG of moderate size that
    holds more than its background, and leaves no other file behind.
    """
    path = tmp_path / "plot.png"
    draw(path)
    assert [file.name for file in tmp_path.iterdir()] == ["plot.png"]
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert 300 < min(image.size) <= max(image.size) < 3000
        assert len(set(image.convert("L").get_flattened_data())) > 10
        assert not image.text, "no software name, no time: the same data give the same bytes"


def test_same_data_same_bytes_in_threads(tmp_path):
    """Drawn eight times at once, a plot has the same bytes as drawn alone."""

    def draw(i):
        path = tmp_path / f"{i}.png"
        plots.confusion_matrix(MATRIX, ODD_NAMES, path)
        return path.read_bytes()

    alone = draw("alone")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(draw, range(8))) == {alone}


def test_needs_no_pyplot():
    """Importing and drawing never loads pyplot, hence no global figure and no display."""
    program = (
        "import sys, tempfile, pathlib, numpy as np; from handful_training import plots;"
        "path = pathlib.Path(tempfile.mkdtemp()) / 'p.png';"
        "plots.kl_per_dimension(np.ones(3), path);"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_pictures_show_their_pixels(tmp_path):
    """A red, a green and a blue image appear as areas of exactly these colours."""
    images = np.zeros((3, 16, 16, 3), np.uint8)
    for k in range(3):
        images[k, ..., k] = 255
    plots.samples(images, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        found = np.array(image.convert("RGB")).reshape(-1, 3)
    for colour in np.eye(3, dtype=np.uint8) * 255:
        assert (found == colour).all(1).mean() > 0.1


def test_a_hundred_classes_are_named(tmp_path):
    """A confusion matrix of 100 classes is large enough for a name of 5 points in each row; one of
    500 classes is no larger.
    """
    sizes = []
    for K in (100, 500):
        names = tuple(f"class {k}" for k in range(K))
        plots.confusion_matrix(np.eye(K, dtype=int), names, tmp_path / "plot.png")
        with Image.open(tmp_path / "plot.png") as image:
            sizes.append(image.size)
    assert min(sizes[0]) > 100 * 5 / 72 * 144
    assert sizes[0] == sizes[1]


def test_the_map_keeps_labelled_rows():
    """Of too many rows, every labelled one is shown and the rest is a sample of the others."""
    classes = np.full(9000, -1)
    classes[::100] = 0
    rows = _choose(classes, np.random.default_rng(0))
    assert len(rows) == MAX_POINTS == len(set(rows.tolist()))
    assert set(range(0, 9000, 100)) <= set(rows.tolist())


@pytest.mark.parametrize("per_cluster", [10, 40])
def test_the_map_keeps_clusters_apart(per_cluster):
    """On the plane, a point's nearest neighbour is of its own cluster, by PCA and by t-SNE."""
    target = np.repeat(np.arange(3), per_cluster)
    rng = np.random.default_rng(0)
    embedding = 10 * np.eye(3, 12)[target] + rng.normal(size=(len(target), 12))
    plane, method = project(embedding.astype(np.float32))
    assert method == ("PCA" if per_cluster == 10 else "t-SNE of 12 principal components")
    distance = np.linalg.norm(plane[:, None] - plane, axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (target[distance.argmin(1)] == target).mean() > 0.95


def test_equal_embeddings_have_a_map():
    """Rows that are all alike fall on one point instead of an error."""
    plane, _ = project(np.ones((5, 4), np.float32))
    assert (plane == 0).all()


def test_names_fit_one_line():
    """A long name of several lines is cut to one, with an ellipsis."""
    assert shorten("a\n b") == "a b"
    assert shorten("x" * 30, 5) == "xxxx…"

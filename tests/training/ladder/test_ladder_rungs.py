"""Rungs on sets whose answer is known: they answer, out of fold too, and never see the label."""

import numpy as np
import pytest
from scipy.special import softmax

from handful_training.graph.pool_graph import PoolGraph
from handful_training.ladder import catalogue as name
from handful_training.ladder.climb import Both, climb, climb_out_of_fold
from handful_training.ladder.known import ENOUGH_ROWS, MAX_REPEATS, Known
from handful_training.ladder.rungs import Graph, Linear, Nearest, each_fold
from handful_training.ladder.spaces import Pixels, encoder_rungs

PER_BLOB, BLOBS, WIDTH = 40, 4, 6


def blobs(spread=0.05, seed=0):
    """Return rows [160, 6] in four clouds far from each other, and which cloud each is in."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(BLOBS), PER_BLOB))
    centres = 5 * np.eye(BLOBS, WIDTH)
    return (centres[truth] + spread * rng.standard_normal((len(truth), WIDTH))).astype(
        np.float32
    ), truth


def labels(truth, per_class, seed=0, classes=BLOBS):
    rng = np.random.default_rng(seed)
    rows = np.sort(
        np.concatenate(
            [rng.permutation(np.flatnonzero(truth == k))[:per_class] for k in range(classes)]
        )
    )
    return Known(rows, truth[rows], classes)


def as_images(rows):
    """Return the rows as grey images of 3 x 2, in the same places to each other."""
    scaled = 255 * (rows - rows.min()) / np.ptp(rows)
    return scaled.round().astype(np.uint8).reshape(-1, 3, 2, 1)


@pytest.fixture(scope="module")
def clouds():
    return blobs()


@pytest.fixture(scope="module")
def every(clouds):
    """Every kind of rung over the clouds."""
    rows, _ = clouds
    images, place = as_images(rows), np.arange(len(rows))
    found = Pixels.of(images, place).rungs(images, place)
    return found | encoder_rungs(rows, PoolGraph.build(rows))


@pytest.mark.parametrize("per_class", [1, 2, 5])
def test_separated_clouds_are_told_apart(clouds, every, per_class):
    """On clouds far from each other every rung is right on all images, one label each included."""
    _, truth = clouds
    known = labels(truth, per_class)
    others = np.setdiff1d(np.arange(len(truth)), known.rows)
    found = climb(every, known, others, truth[others])
    assert {key: standing.right.mean() for key, standing in found.items()} == dict.fromkeys(
        every, 1.0
    )
    for standing in found.values():
        assert standing.probabilities.shape == (len(others), BLOBS)
        np.testing.assert_allclose(standing.probabilities.sum(1), 1, atol=1e-5)


def test_out_of_fold_every_rung_answers_for_the_same_images(clouds, every):
    """All standings are of the same labelled images in the same order, and right on clouds."""
    _, truth = clouds
    known = labels(truth, 4)
    found = climb_out_of_fold(every, known)
    assert list(found) == list(every)
    for standing in found.values():
        np.testing.assert_array_equal(standing.target, known.target)
        assert standing.right.all()


@pytest.mark.parametrize("key", [name.PIXELS_NEAREST, name.PIXELS_LINEAR, name.VAE_LINEAR,
                                 name.PIXELS_GRAPH_WHITENED, name.VAE_GRAPH])  # fmt: skip
def test_no_rung_sees_the_label_that_it_predicts(clouds, every, key):
    """With labels drawn at random, out of fold no rung is much better than guessing: one that saw
    its own label would be right on all of them.
    """
    rng = np.random.default_rng(3)
    rows, _ = clouds
    chosen = np.sort(rng.permutation(len(rows))[:80])
    known = Known(chosen, rng.permutation(np.arange(80) % 2), 2)
    standing = climb_out_of_fold({key: every[key]}, known)[key]
    assert standing.right.mean() < 0.7


@pytest.mark.parametrize("key", [name.PIXELS_NEAREST, name.PIXELS_GRAPH, name.VAE_GRAPH])
def test_out_of_fold_is_prediction_without_the_fold(clouds, every, key):
    """What a rung says out of fold is what it predicts when the fold's labels are not there."""
    _, truth = clouds
    known = labels(truth, 3, seed=1)
    fold = known.folds(0)[:1]
    expected = each_fold(known, fold, every[key].predict)
    np.testing.assert_allclose(every[key].out_of_fold(known, fold), expected, atol=2e-3)


def test_the_nearest_image_decides_alone_where_a_class_has_one_label():
    """With one label each, the class of the nearest labelled image is preferred."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 4, 4, 1), np.uint8)
    known = Known(np.arange(6), np.arange(6), 6)
    rows = np.arange(6, 60)
    flat = images.reshape(60, -1).astype(float)
    nearest = ((flat[rows][:, None] - flat[:6]) ** 2).sum(2).argmin(1)
    np.testing.assert_array_equal(Nearest(images).predict(known, rows).argmax(1), nearest)


def test_rows_stand_for_the_images_at_their_place():
    """`Nearest` with a place answers as one over those images alone."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 4, 4, 3), np.uint8)
    place = np.sort(rng.permutation(50)[:30])
    known = Known(np.arange(8), np.arange(8) % 2, 2)
    rows = np.arange(8, 30)
    np.testing.assert_array_equal(
        Nearest(images, place).predict(known, rows), Nearest(images[place]).predict(known, rows)
    )


def test_both_is_the_geometric_mean(clouds, every):
    """Two rungs together are the normalised geometric mean, before the temperature: with one
    label a class there is none.
    """
    _, truth = clouds
    known = labels(truth, 1)
    rows = np.arange(20)
    found = climb({**every, "all": Both(name.VAE_LINEAR, name.VAE_GRAPH)}, known, rows, truth[rows])
    logs = [
        np.log(found[key].probabilities.astype(float).clip(1.2e-7))
        for key in (name.VAE_LINEAR, name.VAE_GRAPH)
    ]
    np.testing.assert_allclose(
        found["all"].probabilities, softmax(0.5 * sum(logs), axis=1), atol=1e-5
    )


def test_the_temperature_changes_no_answer(clouds, every):
    """Which class a rung prefers is what the bare rung prefers."""
    rows, truth = blobs(spread=2.5, seed=2)
    graph = Graph(PoolGraph.build(rows))
    known = labels(truth, 5)
    others = np.setdiff1d(np.arange(len(truth)), known.rows)
    for rung in (graph, Linear(rows, C=None)):
        bare = rung.predict(known, others)
        standing = climb({"it": rung}, known, others, truth[others])["it"]
        np.testing.assert_array_equal(standing.probabilities.argmax(1), bare.argmax(1))
        assert 0.4 < standing.right.mean() < 1
        assert standing.scores()["accuracy"] == standing.right.mean()


def test_folds_hold_every_class_and_repeat_less_for_many_labels():
    """Each fold of each repeat has labels of each class, and folds follow the seed alone."""
    target = np.repeat(np.arange(3), (3, 7, 20))
    known = Known(np.arange(30), target, 3)
    fold = known.folds(0)
    assert fold.shape == (MAX_REPEATS, 30)
    for repeat in fold:
        assert {(f, k) for f, k in zip(repeat, target, strict=True)} == {
            (f, k) for f in range(3) for k in range(3)
        }
    np.testing.assert_array_equal(fold, known.folds(0))
    assert (fold != known.folds(1)).any()
    many = Known(np.arange(ENOUGH_ROWS), np.arange(ENOUGH_ROWS) % 3, 3)
    assert many.folds(0).shape == (1, ENOUGH_ROWS)


def test_a_lonely_label_cannot_be_held_out(clouds, every):
    """With one label in a class there are no folds; predictions for other rows still are."""
    _, truth = clouds
    known = labels(truth, 1)
    assert not known.can_be_held_out()
    with pytest.raises(ValueError, match="two are needed"):
        climb_out_of_fold(every, known)

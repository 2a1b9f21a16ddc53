"""What an adaptation is made of: pseudo-labels, batches, strong views, labels held out."""

import numpy as np
import pytest

from handful_training.adapt.batches import Sampler
from handful_training.adapt.hold_out import MIN_LABELS, hold_out
from handful_training.adapt.pseudo_labels import pseudo_labels
from handful_training.adapt.strong import strong_augmentation
from handful_training.config import AdaptConfig, AugmentConfig


@pytest.fixture
def said():
    """Probabilities of 200 images for three classes."""
    return np.random.default_rng(0).dirichlet([0.6, 0.6, 0.6], 200).astype(np.float32)


def test_without_held_out_predictions_targets_are_the_graphs_own(said):
    """Temperature 1: what the graph says is what is taught."""
    found = pseudo_labels(said, None, np.array([0, 1, 2]))
    assert found.temperature == 1
    np.testing.assert_allclose(found.target, said, atol=1e-6)


def test_the_temperature_follows_how_right_the_graph_is(said):
    """Right on every held-out label: surer. As good as dice: less sure. The class stays."""
    labels = said[:60].argmax(1).astype(np.int64)
    sure = pseudo_labels(said, said[None, :60], labels)
    unsure = pseudo_labels(said, said[None, :60], np.roll(labels, 1))
    assert sure.temperature < 1 < unsure.temperature
    for found in (sure, unsure):
        np.testing.assert_array_equal(found.target.argmax(1), said.argmax(1))
        np.testing.assert_allclose(found.target.sum(1), 1, atol=1e-5)


def test_weights_follow_their_definition(said):
    """1 from the class's mean confidence on, below it exp(-(c - mean)^2 / (2 var / 4))."""
    found = pseudo_labels(said, None, np.array([0]))
    for image in range(0, 200, 7):
        k = found.target[image].argmax()
        sure = found.target[found.target.argmax(1) == k].max(1).astype(np.float64)
        below = min(0.0, found.target[image].max() - sure.mean())
        expected = np.exp(-(below**2) / (2 * sure.var() / 4))
        assert found.weight[image] == pytest.approx(expected, rel=1e-4)


def test_a_hard_class_is_not_starved():
    """A class of which the graph is never sure has as many images that count as a clear one."""
    rng = np.random.default_rng(1)
    easy, hard = rng.uniform(0.9, 1, 100), rng.uniform(0.5, 0.6, 100)
    said = np.concatenate([np.stack([easy, 1 - easy], 1), np.stack([1 - hard, hard], 1)])
    weight = pseudo_labels(said.astype(np.float32), None, np.array([0, 1])).weight
    assert weight[100:].mean() == pytest.approx(weight[:100].mean(), abs=0.1)


def test_an_unreachable_image_has_a_target():
    """Probability 0 for a class gives no infinity."""
    said = np.array([[1, 0], [0, 1], [0.5, 0.5]], np.float32)
    found = pseudo_labels(said, said[None, :2], np.array([0, 1]))
    assert np.isfinite(found.target).all()
    assert np.isfinite(found.weight).all()


def test_an_epoch_shows_every_image_once():
    """All unlabelled images, but for a short last batch, each batch in ascending order."""
    sampler = Sampler(50, 7, 16, 5, 0)
    batches = [batch.unlabelled for batch in sampler.epoch(3)]
    assert [len(batch) for batch in batches] == [16, 16, 16]
    assert len(np.unique(np.concatenate(batches))) == 48
    assert all((np.diff(batch) > 0).all() for batch in batches)


@pytest.mark.parametrize(("count", "size"), [(7, 5), (3, 16), (64, 64), (100, 8)])
def test_labelled_images_are_drawn_equally_often(count, size):
    """After any number of steps no labelled image was seen more than once oftener than another."""
    sampler = Sampler(160, count, 16, size, 0)
    seen = np.zeros(count, np.int64)
    for epoch in range(2):
        for batch in sampler.epoch(epoch):
            assert len(batch.labelled) == size
            seen += np.bincount(batch.labelled, minlength=count)
            assert np.ptp(seen) <= 1


def test_a_skipped_batch_changes_no_later_one():
    """An adaptation that goes on draws what it would have drawn."""
    sampler = Sampler(50, 7, 16, 5, 0)
    whole, rest = list(sampler.epoch(2)), list(sampler.epoch(2, skip=1))
    assert len(rest) == len(whole) - 1
    for one, other in zip(whole[1:], rest, strict=True):
        np.testing.assert_array_equal(one.unlabelled, other.unlabelled)
        np.testing.assert_array_equal(one.labelled, other.labelled)


def test_strong_views_go_further_within_bounds():
    """Every range grows by the factor, none beyond what a setting may be, and what is off stays."""
    augment = AugmentConfig(shift=0.4, zoom=0.8, rotation=10, brightness=0.0, flip=False)
    strong = strong_augmentation(augment, AdaptConfig(strength=1.5, erase=0.4))
    AugmentConfig.model_validate(strong.model_dump())  # all bounds hold
    assert strong.rotation == 15
    assert strong.shift == 0.5
    assert strong.brightness == 0
    assert strong.erase == 0.4
    assert not strong.flip


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_labels_are_held_out_class_by_class(share):
    """Nearly the share of each class, at least one and never all; small classes lose none."""
    counts = [1, MIN_LABELS - 1, MIN_LABELS, 10, 101]
    target = np.random.default_rng(0).permutation(np.repeat(np.arange(5), counts))
    held_out = hold_out(target, share, seed=0)
    for k, count in enumerate(counts):
        kept = int((~held_out[target == k]).sum())
        if count < MIN_LABELS:
            assert kept == count
        else:
            assert 1 <= kept < count
            assert abs((count - kept) - share * count) <= 1
    np.testing.assert_array_equal(held_out, hold_out(target, share, seed=0))
    assert (held_out != hold_out(target, share, seed=1)).any()


def test_nothing_is_erased_where_nothing_may_change():
    """The preset `none` holds for strong views too."""
    strong = strong_augmentation(AugmentConfig(preset="none"), AdaptConfig(strength=2, erase=0.4))
    assert not strong.erase
    assert not strong.shift

"""The audit's draw is fair, repeatable, and free of what is known already."""

import numpy as np
import pytest
from scipy.stats import chisquare

from handful_training.metrics import wilson_interval
from handful_training.suggest.audit import different, draw, expected_interval


def digests(values):
    """Return a digest for each value: equal values have equal ones."""
    rows = np.zeros((len(values), 32), np.uint8)
    rows[:, 0] = values
    rows[:, 31] = 0  # a digest may end in zeros
    return rows


def test_every_image_is_equally_likely():
    """Over 4,000 draws of 5 of 40, how often each image comes up is as chance has it."""
    rows = np.arange(100, 140)
    drawn = np.concatenate([draw(rows, 5, seed=seed) for seed in range(4000)])
    assert chisquare(np.bincount(drawn - 100, minlength=40)).pvalue > 0.001


def test_a_draw_is_nested_and_without_repeats():
    """The same seed gives the same images, a smaller number its beginning, and none twice."""
    rows = np.arange(50)
    many = draw(rows, 50, seed=3)
    assert sorted(many.tolist()) == list(range(50))
    assert np.array_equal(draw(rows, 8, seed=3), many[:8])
    assert len(draw(rows, 80, seed=3)) == 50
    assert not np.array_equal(draw(rows, 50, seed=4), many)


def test_images_alike_to_the_pixel_count_once():
    """Of equal images the first is kept, unless any of them is labelled."""
    found = different(digests([7, 8, 7, 9, 8, 9, 0]), np.array([4], np.int64))
    assert found.tolist() == [0, 3, 6]


@pytest.mark.parametrize("count", [1, 10, 50, 1000])
def test_the_interval_is_wilsons(count):
    """What n labels promise is Wilson's interval at 90 % right, narrower for more labels."""
    low, high = expected_interval(count)
    assert (low, high) == wilson_interval(round(0.9 * count), count)
    wider = expected_interval(max(1, count // 10))
    assert high - low <= wider[1] - wider[0]

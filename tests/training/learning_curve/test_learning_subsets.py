"""Subsets of labels: nested, stratified, and never asked about what they hold."""

import numpy as np
import pytest

from handful_training.learning_curve.subsets import (
    MOST,
    POINTS,
    curve_sizes,
    draw_subsets,
    nested_order,
)

UNEVEN = np.repeat(np.arange(4), (60, 25, 10, 2))


@pytest.mark.parametrize("hold_out", [True, False])
@pytest.mark.parametrize("target", [UNEVEN, np.repeat(np.arange(10), 10), np.arange(30) % 3])
def test_subsets_are_nested_and_hold_every_class(target, hold_out):
    """Each subset has its size and every class, holds the smaller one, and is asked about nothing
    that it holds.
    """
    found = draw_subsets(target, repeats=5, hold_out=hold_out, seed=1)
    assert (found.inside.sum(2) == found.sizes).all()
    assert (found.inside[:, :-1] <= found.inside[:, 1:]).all()
    assert not (found.inside & found.asked).any()
    for inside in found.inside.reshape(-1, len(target)):
        assert set(target[inside]) == set(target)


def test_subsets_are_stratified():
    """At every beginning of the order each class is within one of its share, or has its first."""
    order = nested_order(UNEVEN, np.arange(len(UNEVEN)), np.random.default_rng(0))
    assert sorted(order) == list(range(len(UNEVEN)))
    for size in range(4, len(order) + 1):
        counts = np.bincount(UNEVEN[order[:size]], minlength=4)
        share = np.bincount(UNEVEN) * size / len(UNEVEN)
        assert (counts >= 1).all()
        assert (counts <= np.maximum(1, np.ceil(share) + 1)).all()
        assert (counts >= np.minimum(np.floor(share) - 3, np.bincount(UNEVEN))).all()


def test_every_label_is_asked_about():
    """Over the repeats each label is asked about at every size, but for a class's only one."""
    target = np.array([0] * 12 + [1] * 6 + [2])
    found = draw_subsets(target, repeats=5, hold_out=True, seed=0)
    assert found.asked.any(axis=0)[:, :-1].all()
    assert not found.asked[..., -1].any()


def test_largest_subset_is_all_labels_where_others_are_asked_about():
    """Without holding out, the largest subset is all labels in every repeat."""
    found = draw_subsets(UNEVEN, repeats=2, hold_out=False, seed=0)
    assert found.inside[:, -1].all()


@pytest.mark.parametrize(("classes", "most"), [(2, 2), (2, 3), (10, 80), (10, 1000), (100, 150)])
def test_sizes(classes, most):
    """Sizes rise from one label per class to all, by whole numbers per class, and are few."""
    sizes = curve_sizes(classes, most)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == most
    assert len(sizes) <= POINTS
    assert all(size % classes == 0 for size in sizes[:-1])
    if most > classes:
        assert sizes[0] == classes


def test_no_subset_is_larger_than_a_curve_needs():
    """Of very many labels only so many are put into a subset."""
    target = np.arange(3 * MOST) % 2
    assert draw_subsets(target, repeats=2, hold_out=True, seed=0).sizes[-1] == MOST


def test_the_same_seed_draws_the_same():
    """A seed decides the subsets, another one draws others."""
    one, same, other = (draw_subsets(UNEVEN, repeats=3, hold_out=True, seed=s) for s in (4, 4, 5))
    np.testing.assert_array_equal(one.inside, same.inside)
    assert (one.inside != other.inside).any()

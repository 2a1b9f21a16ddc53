"""Scores of clusterings: laws that hold whatever the clusters are."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful_training.clusters.agreement import agreement, contingency, matched_accuracy

RNG = np.random.default_rng(0)
pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(pairs, st.permutations(range(5)))
def test_names_of_clusters_do_not_matter(rows, renamed):
    """Calling clusters otherwise changes no score."""
    cluster, target = np.array(rows).T
    before, after = agreement(cluster, target), agreement(np.array(renamed)[cluster], target)
    assert before.named() == pytest.approx(after.named(), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_scores_are_in_order(rows):
    """All scores are 1 at most, no matching beats purity, and none but the ARI falls below 0."""
    scores = agreement(*np.array(rows).T)
    assert 0 <= scores.nmi <= 1 + 1e-9
    assert -1 <= scores.ari <= 1 + 1e-9
    assert 0 < scores.accuracy <= scores.purity <= 1


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_the_best_matching_is_the_best(rows):
    """The accuracy is that of the best one of all one-to-one matchings, counted out by hand."""
    cluster, target = np.array(rows).T
    counts = contingency(cluster, target, 5, 4)
    best = max(
        sum(counts[c, k] for k, c in enumerate(chosen))
        for chosen in itertools.permutations(range(5), 4)
    )
    assert matched_accuracy(counts) == pytest.approx(best / len(rows))
    assert agreement(cluster, target).accuracy == pytest.approx(best / len(rows))


def test_perfect_clusters_score_one():
    """Clusters that are the classes score 1 in everything."""
    target = RNG.integers(0, 7, 500)
    scores = agreement((target + 3) % 7, target).named().values()
    assert list(scores) == pytest.approx([1] * 4)


def test_random_clusters_score_nothing():
    """Clusters drawn by chance say nothing of the class: NMI and ARI near 0, accuracy near that of
    guessing.
    """
    scores = agreement(RNG.integers(0, 10, 20_000), RNG.integers(0, 10, 20_000))
    assert scores.nmi < 0.01
    assert abs(scores.ari) < 0.01
    assert scores.accuracy < 0.13


def test_more_clusters_than_classes_cost_accuracy_not_purity():
    """A class cut into two clusters stays pure, but only one of the two can be matched to it."""
    target = np.repeat([0, 1], 50)
    scores = agreement(np.repeat([0, 1, 2], [50, 30, 20]), target)
    assert scores.purity == 1
    assert scores.accuracy == pytest.approx(0.8)
    assert scores.nmi < 1


def test_contingency_counts_rows():
    """Each row is counted once, by cluster and class, empty ones too."""
    counts = contingency(np.array([0, 0, 2]), np.array([1, 1, 0]), 4, 3)
    assert counts.shape == (4, 3)
    assert counts.sum() == 3
    assert counts[0, 1] == 2
    assert counts[2, 0] == 1

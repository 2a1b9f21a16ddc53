"""How frequent classes are: by labels alone, by the nodes too, or equally."""

import numpy as np
import pytest

from handful_training.graph import prior
from handful_training.graph.prior import Scores, posterior, sample, shrunk_frequencies


def overlapping(share: float, count: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return densities [N, 2] of two overlapping classes, the first with `share`, and the class."""
    rng = np.random.default_rng(seed)
    kind = (rng.random(count) >= share).astype(int)
    x = rng.normal(size=count) + 3 * kind
    return np.exp(-0.5 * (x[:, None] - [0, 3]) ** 2).astype(np.float32), kind


def scores_of(density: np.ndarray, counts: list[int]) -> Scores:
    # The mean over all nodes would be the mixture's; a density's own mean over its measure is 1.
    return Scores(density[sample(len(density))], np.ones(density.shape[1]), np.array(counts))


@pytest.mark.parametrize("counts", [[10] * 10, [1, 1], [3] * 200, [1], [1, 0], [7, 7, 7]])
def test_equal_counts_say_nothing(counts: list[int]):
    """As many labels of each class, or a single label, leave the frequencies uniform."""
    np.testing.assert_allclose(shrunk_frequencies(np.array(counts)), 1 / len(counts))


def test_frequencies_are_positive_and_sum_to_one():
    """Whatever the counts, each class keeps a share above 0, between its own and uniform."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        counts = rng.multinomial(rng.integers(1, 300), rng.dirichlet(np.full(7, 0.3)))
        found = shrunk_frequencies(counts)
        assert found.sum() == pytest.approx(1)
        assert found.min() > 0
        assert (found <= np.maximum((counts + 1) / (counts.sum() + 1), 1 / 7)).all()


def test_shrinking_is_closer_to_the_truth():
    """Averaged over random draws, shrunk frequencies are closer to the truth than raw ones, both
    where classes are equally frequent and where they are not; many labels are believed.
    """
    rng = np.random.default_rng(0)
    for truth in (np.full(10, 0.1), np.array([0.2, 0.16, *[0.08] * 8])):
        draws = rng.multinomial(40, truth, size=300)
        shrunk = np.mean([np.square(shrunk_frequencies(d) - truth).sum() for d in draws])
        raw = np.mean([np.square(d / 40 - truth).sum() for d in draws])
        assert shrunk < 0.7 * raw
    np.testing.assert_allclose(shrunk_frequencies(np.array([9000, 1000])), [0.9, 0.1], atol=1e-3)


def test_the_prior_is_estimated_from_the_nodes():
    """Balanced labels of an unbalanced pool: with many labels the classes' masses come close to the
    truth, and more nodes are right than with a uniform prior. With few they move less.
    """
    density, kind = overlapping(0.9)
    many, few = (posterior(density, scores_of(density, [n, n]), None) for n in (500, 2))
    uniform = posterior(density, scores_of(density, [500, 500]), "uniform")
    assert many[:, 0].mean() == pytest.approx(0.9, abs=0.03)
    assert 0.5 < few[:, 0].mean() < many[:, 0].mean()
    assert (many.argmax(1) == kind).mean() > (uniform.argmax(1) == kind).mean()


def test_what_all_nodes_have_in_common_decides_nothing():
    """Where all nodes have much of every class, a few labels more of one do not give it the pool:
    of equally frequent classes each keeps at least two fifths of the nodes, nearly all the right
    ones.
    """
    density, kind = overlapping(0.5)
    flat = density + 2
    found = posterior(flat, Scores(flat, flat.mean(0, dtype=np.float64), np.array([7, 13])), None)
    assert np.bincount(found.argmax(1)).min() >= 0.4 * len(kind)
    assert (found.argmax(1) == kind).mean() > 0.9


@pytest.mark.parametrize("classes", [2, 5, 30])
def test_a_uniform_prior_gives_equal_masses(classes: int):
    """However unequal the scores and the labels, every class has the same mass over the nodes."""
    rng = np.random.default_rng(0)
    score = rng.gamma(0.3, size=(2000, classes)).astype(np.float32) * np.arange(1, classes + 1)
    scores = Scores(score[sample(2000)], score.mean(0), np.arange(1, classes + 1))
    found = posterior(score, scores, "uniform")
    np.testing.assert_allclose(found.mean(0), 1 / classes, rtol=1e-3)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_a_column_s_scale_does_not_matter():
    """Scores of a class ten times as large, as more labels give, leave the probabilities alone."""
    score = np.random.default_rng(0).gamma(0.5, size=(300, 3)).astype(np.float32)
    counts = np.array([4, 4, 4])
    for name in (None, "uniform"):
        one, other = (
            posterior(s, Scores(s, s.mean(0, dtype=np.float64), counts), name)
            for s in (score, score * np.float32([10, 1, 0.1]))
        )
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_nodes_without_scores_get_the_prior():
    """Where nothing is known of a node, it has the classes' weights; a class without a label keeps
    a little, never NaN; scores a little below zero count as zero.
    """
    score = np.zeros((60, 3), np.float32)
    score[:30, 0], score[30:50, 1] = 1, 1
    score[55, 0] = -1e-6
    scores = Scores(score, score.mean(0, dtype=np.float64), np.array([5, 5, 0]))
    for name in (None, "uniform"):
        found = posterior(score, scores, name)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found[50:], found[50:51].repeat(10, 0), rtol=1e-5)
        assert found[:30, 0].min() > 0.97
        assert 0 < found[:30, 2].max() < 0.02


def test_the_sample_is_spread_over_all_nodes():
    """Few nodes are all in it, of many as many as the limit says, from the first to the last."""
    np.testing.assert_array_equal(sample(7), np.arange(7))
    many = sample(100_000)
    assert len(np.unique(many)) == prior.SAMPLE
    assert (many[0], many[-1]) == (0, 99_999)

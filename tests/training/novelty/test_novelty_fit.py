"""Novelty: the graph against numpy, its law on images like the pool's, and pools that are odd."""

import numpy as np
import onnxruntime as ort
import pytest
from scipy.stats import binom, kstest
from sklearn.covariance import LedoitWolf

from handful_bundle.graph import FLOAT, Port, check_graph
from handful_bundle.head import Head
from handful_training.head.onnx_graph import Layer, Term, classifier_part, compose
from handful_training.novelty.fit import Distortions, fit_novelty, spread_rows
from handful_training.novelty.gaussian import ShrunkGaussian
from handful_training.novelty.onnx_part import novelty_part

WIDTH = 24


def embeddings(count, seed=0):
    """Return what an encoder with a ReLU gives: clusters, non-negative, of unequal spread."""
    centres = np.random.default_rng(99).normal(0, 1.5, (6, WIDTH))
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (count, WIDTH)) * np.linspace(0.1, 1.5, WIDTH)
    return np.maximum(centres[rng.integers(0, 6, count)] + noise + 1, 0).astype(np.float32)


def distortions(rows, seed=0):
    """Return nats that follow from the embedding but for noise, for every other row."""
    chosen = np.arange(0, len(rows), 2)
    noise = np.random.default_rng(seed).normal(0, 0.1, len(chosen))
    nats = np.exp(5 + 0.1 * rows[chosen].astype(float) @ np.linspace(-1, 1, WIDTH) + noise)
    return Distortions(chosen, nats)


def graph(detector):
    """Return head.onnx with a classifier of two classes beside the novelty."""
    layer = Layer(np.ones((WIDTH, 2)), np.zeros(2))
    return compose(WIDTH, [classifier_part([Term("embedding", (layer,))]), novelty_part(detector)])


def run(detector, rows):
    session = ort.InferenceSession(graph(detector), providers=["CPUExecutionProvider"])
    return session.run(["novelty"], {"embedding": rows})[0]


@pytest.mark.parametrize("rebuilt", [True, False])
def test_the_graph_is_numpy(rebuilt) -> None:
    """head.onnx gives the detector's novelty within 1e-5, near the pool and far from it, a row at a
    time or many, beside the probabilities, and passes the checks of a bundle.
    """
    pool = embeddings(2000)
    fitted = fit_novelty(pool, distortions(pool) if rebuilt else None)
    assert fitted.info.method == ("mahalanobis+distortion" if rebuilt else "mahalanobis")
    rows = np.concatenate(
        [embeddings(300, seed=1), 10 * embeddings(20, seed=2), np.zeros((1, WIDTH), np.float32)]
    )
    expected = fitted.detector(rows)
    np.testing.assert_allclose(run(fitted.detector, rows), expected, atol=1e-5)
    head = Head.open(graph(fitted.detector), WIDTH, ("a", "b"), "cpu", 1)
    for part in (rows[:1], rows[:5], rows):
        found = head.judge(part)
        np.testing.assert_allclose(found.novelty, expected[: len(part)], atol=1e-5)
        assert found.probabilities.shape == (len(part), 2)
    check_graph(
        graph(fitted.detector),
        "head.onnx",
        {"embedding": Port(FLOAT, (WIDTH,))},
        {"probabilities": Port(FLOAT, (2,)), "novelty": Port(FLOAT, ())},
    )


def test_distance_is_that_of_ledoit_and_wolf() -> None:
    """Coordinates have scikit-learn's Mahalanobis distance, few rows or many."""
    for count in (30, 2000):
        rows = embeddings(count).astype(np.float64)
        others = embeddings(100, seed=1).astype(np.float64)
        reference = LedoitWolf().fit(rows)
        found = np.square(ShrunkGaussian.fit(rows).coordinates(others)).sum(axis=1)
        np.testing.assert_allclose(found, reference.mahalanobis(others), rtol=1e-6)


@pytest.mark.parametrize("count", [150, 1000])
def test_novelty_is_uniform_on_images_like_the_pools(count) -> None:
    """The novelty of new images from the pool's own distribution is uniform: over several pools,
    none lies farther from it than chance and the pool's own size allow.
    """
    for seed in range(3):
        fitted = fit_novelty(embeddings(count, seed=10 + seed))
        found = fitted.detector(embeddings(4000, seed=20 + seed))
        # 99.9 % of the Kolmogorov distances of a sample, of the pool, and of both together.
        assert kstest(found, "uniform").statistic < 1.95 * np.sqrt(1 / 4000 + 1 / count) + 0.02


@pytest.mark.parametrize(("rate", "count"), [(0.01, 100), (0.01, 300), (0.05, 120), (0.1, 100)])
def test_false_alarms_are_as_rare_as_stated(rate, count) -> None:
    """Over pools drawn anew, images like them are called novel at most as often as stated, and not
    so rarely that the threshold would be idle.
    """
    pools, fresh = 30, 400
    alarms = 0
    for seed in range(pools):
        fitted = fit_novelty(embeddings(count, seed=100 + seed), false_alarm_rate=rate)
        found = run(fitted.detector, embeddings(fresh, seed=200 + seed))
        alarms += int((found.astype(np.float64) > fitted.info.threshold).sum())
    trials = pools * fresh
    # Alarms of one pool come together: their number varies as that of `pools * count` images would.
    spread = 4 * np.sqrt(rate * (1 - rate) * (1 / trials + 1 / (pools * count)))
    assert alarms / trials < rate + spread
    assert alarms > binom.ppf(1e-4, pools * count, rate / 4) * fresh / count


def test_far_images_are_novel() -> None:
    """What is unusual in mixture or in strength is above the threshold."""
    pool = embeddings(3000)
    fitted = fit_novelty(pool, distortions(pool))
    usual = embeddings(500, seed=3)
    swapped = usual[:, ::-1].copy()
    for far in (swapped, 3 * usual, 0.05 * usual, np.full((1, WIDTH), 1e6, np.float32)):
        assert (run(fitted.detector, far) > fitted.info.threshold).mean() > 0.9


def test_rebuilding_alone_can_make_an_image_novel() -> None:
    """Four deviations along the one direction that distortion follows, either way, are lost among
    64 others for a distance, and novel where distortions were given.
    """
    rng = np.random.default_rng(0)
    pool = rng.normal(5, 1, (3000, 64)).astype(np.float32)
    known = Distortions(np.arange(3000), np.exp(pool[:, 0].astype(float)))
    fitted, blind = fit_novelty(pool, known), fit_novelty(pool)
    for way in (-4, 4):
        moved = rng.normal(5, 1, (500, 64)).astype(np.float32)
        moved[:, 0] += way
        assert (fitted.detector(moved) > fitted.info.threshold).mean() > 0.7
        assert (blind.detector(moved) > blind.info.threshold).mean() < 0.35


def test_distortion_must_follow_from_the_embedding() -> None:
    """Distortions that the embedding cannot tell are left out: the graph is that without any."""
    pool = embeddings(1000)
    chance = Distortions(np.arange(1000), np.random.default_rng(0).uniform(100, 200, 1000))
    fitted, blind = fit_novelty(pool, chance), fit_novelty(pool)
    assert fitted.info == blind.info
    assert novelty_part(fitted.detector) == novelty_part(blind.detector)


def test_too_few_images_tell_no_novelty() -> None:
    """Below 100 images there is none, and the manifest says how many there were and are needed;
    from 100 on a rarer alarm than they can set a threshold for leaves the threshold open.
    """
    few = fit_novelty(embeddings(99))
    assert few.detector is None
    assert few.info.method is few.info.threshold is None
    assert few.info.count == 99
    assert few.info.model_dump()["needed"] == 100
    assert fit_novelty(embeddings(100)).info.threshold is not None
    rare = fit_novelty(embeddings(100), false_alarm_rate=0.005)
    assert rare.detector is not None
    assert rare.info.threshold is None
    assert rare.info.model_dump()["needed"] == 199
    assert fit_novelty(embeddings(199), false_alarm_rate=0.005).info.threshold is not None


@pytest.mark.parametrize(
    "kind", ["all equal", "all zero", "duplicates", "constant features", "few"]
)
def test_odd_pools(kind) -> None:
    """Equal images, dead features and pools smaller than the embedding's width give finite novelty;
    the pool's own images are not novel, something quite different is.
    """
    pool = embeddings(400)
    pool = {
        "all equal": np.repeat(pool[:1], 400, axis=0),
        "all zero": np.zeros_like(pool),
        "duplicates": np.concatenate([np.repeat(pool[:1], 300, axis=0), pool[:100]]),
        "constant features": np.where(np.arange(WIDTH) % 2, pool, np.float32(0.5)),
        "few": np.random.default_rng(0).normal(3, 1, (110, 200)).astype(np.float32),
    }[kind]
    fitted = fit_novelty(pool, Distortions(np.arange(len(pool)), np.full(len(pool), 7.0)))
    head = compose(pool.shape[1], [novelty_part(fitted.detector)])
    session = ort.InferenceSession(head, providers=["CPUExecutionProvider"])
    own, far = (
        session.run(["novelty"], {"embedding": rows.astype(np.float32)})[0]
        for rows in (pool, pool + 5 * (1 + np.arange(pool.shape[1]) % 3))
    )
    assert np.isfinite(own).all()
    assert (own > fitted.info.threshold).mean() <= 0.011
    assert (far > fitted.info.threshold).all()


def test_the_fit_is_repeatable_and_bounded() -> None:
    """The same pool gives the same graph; of a large one 20,000 images are looked at."""
    pool = np.tile(embeddings(2500), (10, 1)) + embeddings(25_000, seed=5) / 10
    first, second = fit_novelty(pool), fit_novelty(pool)
    assert novelty_part(first.detector) == novelty_part(second.detector)
    assert first.info.count == 20_000
    assert len(spread_rows(25_000, 4096)) * 4096 <= 10_000_000

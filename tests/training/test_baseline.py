"""The control: PCA of pixels and logistic regression."""

import tracemalloc

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from handful_bundle.errors import BundleCorrupt
from handful_training import baseline
from handful_training.baseline import PixelBaseline, shrink

LABELS = ("bar", "disc")


def choose(kind, per_class):
    index = np.concatenate([np.flatnonzero(kind == k)[:per_class] for k in (0, 1)])
    return index, kind[index]


def test_is_pca_and_logistic_regression(shapes):
    """The baseline's probabilities are those of sklearn's exact PCA(50) and logistic regression on
    pixels / 255.
    """
    images, kind = shapes
    index, target = choose(kind, 10)
    found = PixelBaseline.fit(images, index, target, LABELS).probabilities(images)
    pixels = images.reshape(len(images), -1) / 255
    features = PCA(50, svd_solver="full").fit(pixels).transform(pixels)
    model = LogisticRegression(C=1.0, max_iter=1000).fit(features[index], target)
    # the randomised solver leaves the last, smallest components a little open
    np.testing.assert_allclose(found, model.predict_proba(features), atol=0.02)


def test_learns_from_a_memory_map(shapes, tmp_path):
    """Read-only memory maps do, and rows can be predicted by index."""
    images, kind = shapes
    np.save(tmp_path / "pool.npy", images)
    pool = np.load(tmp_path / "pool.npy", mmap_mode="r")
    index, target = choose(kind, 10)
    fitted = PixelBaseline.fit(pool, index, target, LABELS)
    found = fitted.probabilities(pool)
    assert found.dtype == np.float32
    assert (found.argmax(1) == kind).mean() > 0.85
    np.testing.assert_allclose(fitted.probabilities(pool, index), found[index], atol=1e-6)
    assert fitted.probabilities(pool[:0]).shape == (0, 2)


def test_is_deterministic(shapes):
    """The same arguments give the same bytes."""
    images, kind = shapes
    index, target = choose(kind, 3)
    first, again = (PixelBaseline.fit(images, index, target, LABELS).pack() for _ in range(2))
    assert first == again


def test_survives_storing(shapes):
    """What was packed and unpacked predicts the same; anything else is refused."""
    images, kind = shapes
    fitted = PixelBaseline.fit(images, *choose(kind, 3), ("bär", "disc"))
    stored = PixelBaseline.unpack(fitted.pack())
    assert stored.labels == ("bär", "disc")
    np.testing.assert_array_equal(stored.probabilities(images), fitted.probabilities(images))
    with pytest.raises(BundleCorrupt, match=r"baseline\.npz"):
        PixelBaseline.unpack(b"PK")


def test_out_of_fold_never_saw_the_row(shapes):
    """Held-out predictions are good on real labels and at chance on shuffled ones."""
    images, kind = shapes
    index, target = choose(kind, 20)
    fitted = PixelBaseline.fit(images, index, target, LABELS)
    found = fitted.out_of_fold(images, index, target)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert (found.argmax(1) == target).mean() > 0.8
    shuffled = np.random.default_rng(1).permutation(target)
    assert (fitted.out_of_fold(images, index, shuffled).argmax(1) == shuffled).mean() < 0.75
    with pytest.raises(ValueError, match="two are needed"):
        fitted.out_of_fold(images, index[:21], target[:21])


def test_memory_does_not_grow_with_the_pool(tmp_path):
    """A pool of 30,000 colour images of 64 x 64 (350 MiB) is fitted within 150 MiB."""
    pool = np.memmap(tmp_path / "pool", np.uint8, "w+", shape=(30_000, 64, 64, 3))
    rng = np.random.default_rng(0)
    pool[::100] = rng.integers(0, 255, (300, 64, 64, 3), dtype=np.uint8)
    tracemalloc.start()
    PixelBaseline.fit(pool, np.array([0, 100, 200, 300]), np.array([0, 1, 0, 1]), LABELS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 * 2**20


def test_fits_a_pool_smaller_than_its_components():
    """Twelve images leave twelve components at most, and that is enough to go on."""
    images = np.random.default_rng(0).integers(0, 255, (12, 16, 16, 3), dtype=np.uint8)
    target = np.arange(6) % 3
    fitted = PixelBaseline.fit(images, np.arange(6), target, ("a", "b", "c"))
    assert fitted.components.shape == (12, 768)
    assert (fitted.probabilities(images[:6]).argmax(1) == target).all()


@pytest.mark.parametrize(
    ("size", "expected"), [((28, 28), (28, 28)), ((64, 64), (32, 32)), ((65, 130), (13, 26)),
                           ((32, 33), (16, 16)), ((2, 256), (1, 32))],
)  # fmt: skip
def test_shrinks_to_at_most_32(size, expected):
    """No side exceeds 32 afterwards; small images keep their pixels."""
    images = np.random.default_rng(0).integers(0, 255, (2, *size, 3), dtype=np.uint8)
    small = shrink(images)
    assert small.shape == (2, *expected, 3)
    assert max(expected) <= baseline.MAX_SIDE
    assert 0 <= small.min() <= small.max() <= 1
    if size == expected:
        np.testing.assert_allclose(small, images / 255, rtol=1e-6)


def test_shrinking_averages_blocks():
    """A pixel of the small image is the mean of its block."""
    images = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 1), dtype=np.uint8)
    assert shrink(images)[0, 3, 5, 0] == pytest.approx(images[0, 6:8, 10:12, 0].mean() / 255)

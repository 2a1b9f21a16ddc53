"""Where each class lies in latent space."""

import numpy as np
import pytest

from handful_bundle.classes import Classes
from handful_training.head.classes import class_statistics

RNG = np.random.default_rng(0)
LATENTS = RNG.normal(size=(9, 4)).astype(np.float32)
TARGET = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2])


def test_moments_are_numpys():
    """Count, mean and unbiased variance are those of the rows, and the bundle reads them."""
    found = Classes.unpack(class_statistics(LATENTS, TARGET, 3), 3, 4)
    assert found.count.tolist() == [5, 3, 1]
    for k in (0, 1, 2):
        np.testing.assert_allclose(found.mean[k], LATENTS[k == TARGET].mean(0), rtol=1e-5)
    for k in (0, 1):
        np.testing.assert_allclose(
            found.variance[k], LATENTS[k == TARGET].var(0, ddof=1), rtol=1e-5
        )


def test_one_label_borrows_the_variance_within_the_others():
    """A class with one label has the pooled variance within classes, whatever the pool's is."""
    data = class_statistics(LATENTS, TARGET, 3, pool_variance=np.full(4, 100.0))
    squares = sum(
        np.square(LATENTS[k == TARGET] - LATENTS[k == TARGET].mean(0)).sum(0) for k in (0, 1)
    )
    np.testing.assert_allclose(Classes.unpack(data, 3, 4).variance[2], squares / 6, rtol=1e-5)


@pytest.mark.parametrize(("pool", "expected"), [(np.full(4, 0.3), 0.3), (None, 1.0)])
def test_one_label_in_every_class(pool, expected):
    """Without any variance within classes, the pool's stands in, or else the prior's."""
    data = class_statistics(LATENTS[[0, 5, 8]], np.arange(3), 3, pool_variance=pool)
    np.testing.assert_allclose(Classes.unpack(data, 3, 4).variance, expected, rtol=1e-6)

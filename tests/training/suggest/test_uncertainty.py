"""How open an image is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handful_training.suggest.uncertainty import uncertainty


def test_from_settled_to_open():
    """A sure image is 0, a tie of the first two 1 whatever else there is, and 0.7 to 0.2 is 0.5."""
    p = np.array([[1, 0, 0], [0.5, 0, 0.5], [0.2, 0.1, 0.7]])
    assert uncertainty(p) == pytest.approx([0, 1, 0.5])


@given(st.integers(0, 10_000), st.integers(2, 12))
def test_between_0_and_1_and_blind_to_the_classes_order(seed, classes):
    """It lies in 0 ... 1 and does not depend on what the classes are called."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), 30).astype(np.float32)
    found = uncertainty(p)
    assert ((found >= 0) & (found <= 1)).all()
    assert uncertainty(p[:, rng.permutation(classes)]) == pytest.approx(found)

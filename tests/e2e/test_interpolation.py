"""The page of `explore` and the SDK, which share no code, go the same way between two images."""

import numpy as np
import pytest

from handful_bundle.bundle import Bundle
from handful_client import Handful
from handful_client.interpolation import path as client_path
from handful_training.explore.path import path as training_path
from handful_training.explore.views import STEPS, End, interpolations


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 40.0, -1.0])
def test_both_paths_are_one(scale):
    """Whatever the two latents, both give the same latents on the way."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=64).astype(np.float32)
    for second in (scale * rng.normal(size=64), scale * first):
        expected = training_path(first, second.astype(np.float32), 9)
        found = client_path(first.tolist(), second.astype(np.float32).tolist(), 9)
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, abs(scale)))


def test_the_page_shows_what_the_sdk_returns(bundle_dir):
    """The images between the two reconstructions are those of `interpolate`."""
    bundle = Bundle.load(bundle_dir, device="cpu", threads=1)
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    means = bundle.encoder(images).mean
    ends = [End("", image, mean) for image, mean in zip(images, means, strict=True)]
    shown = interpolations([(ends[0], ends[1])], bundle.decoder).strips[0].images
    with Handful.local(bundle_dir, threads=1) as client:
        returned = client.interpolate(*images, steps=STEPS).pixels
    np.testing.assert_array_equal(shown[[0, -1]], images)
    assert np.abs(shown[1:-1].astype(int) - returned).max() <= 1

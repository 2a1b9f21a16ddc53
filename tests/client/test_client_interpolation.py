"""From one image to another: the path's laws, and the same images whatever the way."""

import math

import numpy as np
import pytest

from handful_client import Handful, PartialFailure, errors
from handful_client.interpolation import path

RNG = np.random.default_rng(0)
PAIRS = [RNG.normal(size=(2, 16)) * scale for scale in (1, 0.01, [[1], [7]])]


def norms(latents):
    return [math.hypot(*latent) for latent in latents]


@pytest.mark.parametrize("pair", PAIRS)
def test_a_path_joins_its_ends(pair):
    """The first latent is the one end, the last the other, to the last bit, in as many steps."""
    for steps in (2, 3, 9):
        found = path(*pair.tolist(), steps)
        assert len(found) == steps
        assert (found[0], found[-1]) == tuple(pair.tolist())


@pytest.mark.parametrize("pair", PAIRS)
def test_norms_and_angles_change_evenly(pair):
    """Along a path the norm changes linearly and the direction turns at constant speed, within the
    plane of both ends.
    """
    found = np.array(path(*pair.tolist(), 9))
    np.testing.assert_allclose(norms(found), np.linspace(*norms(pair), 9), rtol=1e-9)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    turns = np.arccos((unit[1:] * unit[:-1]).sum(1))
    np.testing.assert_allclose(turns, turns.mean(), rtol=1e-5)
    assert np.linalg.matrix_rank(found, tol=1e-9) == 2


@pytest.mark.parametrize("pair", PAIRS)
def test_the_way_back_is_the_same_way(pair):
    """From b to a is the path from a to b, reversed."""
    first, second = pair.tolist()
    np.testing.assert_allclose(path(second, first, 7), path(first, second, 7)[::-1], rtol=1e-9)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5, -1.0])
def test_without_an_arc_the_line_is_straight(scale):
    """Between latents of one line through the origin (equal, opposite, zero) the path is linear."""
    first = PAIRS[0][0]
    weights = np.linspace(1, scale, 5)
    np.testing.assert_allclose(
        path(first.tolist(), (scale * first).tolist(), 5), weights[:, None] * first, atol=1e-12
    )


def test_an_interpolation_begins_and_ends_with_reconstructions(client, photos):
    """Its ends are what `reconstruct` makes of the two images, and everything between differs."""
    made = client.interpolate(photos[0], photos[1], steps=5)
    rebuilt = client.reconstruct(photos[:2])
    assert len(made) == 5
    ends = made.pixels[[0, -1]].astype(int)
    assert np.abs(ends - rebuilt.pixels).max() <= 1
    assert len(np.unique(made.pixels, axis=0)) == 5
    assert made.model == rebuilt.model


def test_all_ways_give_the_same_images(client, photos, bundle_dir):
    """Over a service or in this process, blocking or awaited, the images are the same."""
    with Handful.local(bundle_dir, threads=1) as reference:
        expected = reference.interpolate(photos[2], photos[5]).pixels
    found = client.interpolate(photos[2], photos[5]).pixels
    assert found.shape == (8, 16, 16, 3)
    assert np.abs(found.astype(int) - expected).max() <= 1  # a float's last bit may round a pixel


def test_ends_may_be_of_any_kind(client, photos):
    """A file's bytes and an array are interpolated between as two images, not as a batch."""
    array = np.full((16, 16, 3), 200, np.uint8)
    assert len(client.interpolate(array, photos[0], steps=2)) == 2


def test_a_bad_end_is_named(client, photos):
    """An end that is no image is named by its place, many images are refused, as is one step."""
    with pytest.raises(PartialFailure) as caught:
        client.interpolate(photos[0], b"no image")
    assert [error.index for error in caught.value.errors] == [1]
    with pytest.raises(errors.InputError, match="list"):
        client.interpolate(photos[0], photos[:2])
    with pytest.raises(errors.InputError, match="2 or more"):
        client.interpolate(photos[0], photos[1], steps=1)


def test_a_model_without_a_decoder_says_so(bundle_dir_grey):
    """Where the model cannot decode, the error says what is missing."""
    with (
        Handful.local(bundle_dir_grey) as client,
        pytest.raises(errors.NoDecoder, match=r"decoder\.onnx"),
    ):
        client.interpolate(np.zeros((28, 28), np.uint8), np.ones((28, 28), np.uint8))


def test_a_swap_between_the_two_requests_is_noticed(connect, server, behave):
    """Latents of one encoder are never shown as images of another one's decoder."""
    latent = behave.embeddings_of(2)
    latent["log_variance"] = latent["embeddings"]
    other = "sha256:" + "b" * 64
    decoded = {"model": {**latent["model"], "space": other}, "images": [None] * 8, "errors": []}
    server.does(behave.answer(200, latent), behave.answer(200, decoded, x_embedding_space=other))
    with pytest.raises(errors.SpaceMismatch):
        connect(server.url).interpolate(b"\x89PNG\r\n\x1a\n1", b"\x89PNG\r\n\x1a\n2")

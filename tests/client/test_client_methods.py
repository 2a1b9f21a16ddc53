"""Every method, over a real service and over a bundle, blocking and awaiting: one set of laws."""

import numpy as np
import pytest

from handful_client import Handful, PartialFailure, Prediction, errors


def test_embeddings_are_those_of_the_bundle(client, photos, bundle_dir):
    """Whatever the way, image i gets the embedding that the bundle gives it, in row i."""
    with Handful.local(bundle_dir, threads=1) as reference:
        expected = np.concatenate([reference.embed(photo).embeddings for photo in photos])
    result = client.embed(photos)
    assert result.embeddings.dtype == np.float32
    np.testing.assert_allclose(result.embeddings, expected, rtol=1e-5, atol=1e-6)
    assert result.errors == []
    assert len(np.unique(result.embeddings, axis=0)) == len(photos)


def test_an_image_by_itself_is_one_row(client, photos):
    """One image gives the same row as it does among others."""
    alone, among = client.embed(photos[3]), client.embed(photos)
    assert alone.embeddings.shape == (1, 8)
    np.testing.assert_allclose(alone.embeddings[0], among.embeddings[3], rtol=1e-5, atol=1e-6)


def test_bad_images_cost_only_themselves(client, photos):
    """Of a batch with bad images the others have embeddings, and each bad one has its reason."""
    given = [photos[0], b"no image", photos[1], b"", photos[2][:90], "/no/such/file.jpg", photos[3]]
    result = client.embed(given)
    assert result.ok == [True, False, True, False, False, False, True]
    assert np.isnan(result.embeddings).any(axis=1).tolist() == [not fine for fine in result.ok]
    assert [(error.index, error.code) for error in result.errors] == [
        (1, "image_unsupported"),
        (3, "image_empty"),
        (4, "image_unreadable"),
        (5, "file_missing"),
    ]
    good = client.embed([photos[0], photos[1], photos[2], photos[3]]).embeddings[[0, 1, 3]]
    np.testing.assert_allclose(result.embeddings[result.ok], good, rtol=1e-5, atol=1e-6)


def test_a_large_batch_with_a_bad_image_too(client, photos):
    """Bad images among many, which travel as arrays, cost only themselves, too."""
    result = client.embed([*photos * 12, b"no image", *photos])
    assert [error.index for error in result.errors] == [12 * len(photos)]
    np.testing.assert_allclose(
        result.embeddings[-len(photos) :], result.embeddings[: len(photos)], rtol=1e-5, atol=1e-6
    )


def test_nothing_but_bad_images(client):
    """A batch in which nothing can even be sent still names the model and has a row for each."""
    result = client.embed(["/no/such/file", 5])
    assert np.isnan(result.embeddings).all()
    assert result.embeddings.shape == (2, 8)
    assert result.model.name == "animals"


def test_no_images_at_all(client):
    """An empty list gives an empty result, not an error."""
    assert client.embed([]).embeddings.shape == (0, 8)
    assert client.classify([]) == []


def test_raise_for_errors_loses_nothing(client, photos):
    """The error raised for failed images holds the others' embeddings in their places."""
    result = client.embed([photos[0], b"no image"])
    with pytest.raises(PartialFailure, match="1 of 2 images failed") as caught:
        result.raise_for_errors()
    assert caught.value.results[1] is caught.value.errors[0] is result.errors[0]
    np.testing.assert_array_equal(caught.value.results[0], result.embeddings[0])
    assert client.embed(photos[:1]).raise_for_errors().errors == []


def test_a_bad_image_by_itself_is_an_exception(client):
    """One image given by itself and unusable raises its own typed error."""
    for data, code in ((b"no image", "image_unsupported"), (b"", "image_empty")):
        with pytest.raises(errors.ImageRejected) as caught:
            client.classify(data)
        assert caught.value.code == code
        assert not caught.value.retryable
    with pytest.raises(errors.ImageUnreadable, match="No such file") as caught:
        client.embed("/no/such/file.jpg")
    assert caught.value.code == "file_missing"


def test_latents(client, photos):
    """`space="latent"` gives mean and log variance of q(z|x), a row each."""
    result = client.embed([*photos, b""], space="latent")
    assert result.embeddings.shape == result.log_variance.shape == (13, 4)
    assert np.isnan(result.log_variance[12]).all()
    assert not np.isnan(result.log_variance[:12]).any()


def test_predictions(client, photos):
    """One prediction per image, whose probabilities sum to one and whose label is the likeliest."""
    found = client.classify(photos)
    assert len(found) == len(photos)
    for prediction in found:
        assert isinstance(prediction, Prediction)
        assert set(prediction.probabilities) == {"cat", "dog", "owl"}
        assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert prediction.confidence == max(prediction.probabilities.values())
        assert prediction.probabilities[prediction.label] == prediction.confidence
        assert not prediction.abstained
        assert prediction.novelty is prediction.prediction_set is prediction.reason is None


def test_classify_loses_nothing(client, photos):
    """`classify` raises when images failed, with everything on the error, or returns it all."""
    given = [photos[0], b"no image", photos[1]]
    with pytest.raises(PartialFailure) as caught:
        client.classify(given)
    returned = client.classify(given, errors="return")
    assert returned[1] == caught.value.errors[0] == caught.value.results[1]
    assert [item.label for item in (returned[0], returned[2])] == [
        prediction.label for prediction in client.classify([photos[0], photos[1]])
    ]


def test_kept_embeddings_classify_like_their_images(client, photos):
    """Classifying an `EmbedResult` says what classifying its images says, failed ones included."""
    given = [*photos, b"no image"]
    kept = client.embed(given)
    found = client.classify(embeddings=kept, errors="return")
    direct = client.classify(given, errors="return")
    assert found[-1] == direct[-1]
    for one, other in zip(found[:-1], direct[:-1], strict=True):
        assert one.label == other.label
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)
    rows = client.classify(embeddings=kept.embeddings[:2].tolist(), space=kept.model.space)
    assert [row.label for row in rows] == [item.label for item in direct[:2]]


def test_embeddings_of_another_space_are_refused(client):
    """Embeddings that say they are of another space are never classified."""
    with pytest.raises(errors.SpaceMismatch) as caught:
        client.classify(embeddings=[[0.0] * 8], space="sha256:" + "0" * 64)
    assert caught.value.code == "space_mismatch"


def test_decode_and_reconstruct(client, photos):
    """Decoding an image's latent mean gives its reconstruction; distortion and rate are nats."""
    decoded = client.decode(client.embed(photos, space="latent"))
    rebuilt = client.reconstruct(photos)
    assert decoded.pixels.shape == (12, 16, 16, 3)
    assert decoded.pixels.dtype == np.uint8
    assert np.abs(decoded.pixels.astype(int) - rebuilt.pixels).max() <= 1
    assert all(nats > 0 for nats in rebuilt.distortion + rebuilt.rate)
    broken = client.reconstruct([photos[0], b"no image"])
    assert (broken.png[1], broken.distortion[1], broken.rate[1]) == (None, None, None)
    assert broken.errors[0].index == 1
    with pytest.raises(PartialFailure):
        _ = broken.pixels


def test_the_same_seed_draws_the_same_images(client, bundle_dir):
    """A seed draws the same images whatever the way; a label moves them."""
    with Handful.local(bundle_dir) as reference:
        for label in (None, "owl"):
            expected = reference.sample(3, label=label, seed=5).pixels
            np.testing.assert_array_equal(client.sample(3, label=label, seed=5).pixels, expected)
    with pytest.raises(errors.Unprocessable) as caught:
        client.sample(1, label="no such label")
    assert caught.value.code == "label_unknown"


def test_model_and_readiness(client):
    """`model` tells what is served and what it can do; `ready` that it takes requests."""
    info = client.model()
    assert client.ready() is True
    assert info.labels == ["cat", "dog", "owl"]
    assert info.routes == ["/embed", "/classify", "/decode", "/reconstruct", "/sample"]
    assert info.manifest.image.shape == (16, 16, 3)
    assert info.manifest.space == info.model.space
    assert client.embed([]).model == info.model

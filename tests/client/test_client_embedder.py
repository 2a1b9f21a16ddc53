"""The scikit-learn transformer."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from handful_client import Handful, HandfulEmbedder, PartialFailure, errors


@pytest.fixture(params=["service", "bundle"])
def embedder(request, service, bundle_dir):
    return (
        HandfulEmbedder(service)
        if request.param == "service"
        else HandfulEmbedder(bundle=bundle_dir)
    )


def test_it_embeds(embedder, photos, bundle_dir):
    """`transform` gives the embeddings of the images, over a service and over a bundle."""
    with Handful.local(bundle_dir, threads=1) as client:
        expected = client.embed(photos).embeddings
    found = embedder.fit(photos).transform(photos)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert embedder.n_features_out_ == 8
    assert embedder.get_feature_names_out().tolist() == [f"handfulembedder{i}" for i in range(8)]


def test_it_works_in_a_pipeline(embedder, photos):
    """It is a step that pipelines fit, cross-validation clones, and results of which fit."""
    labels = [index % 2 for index in range(len(photos))]
    pipeline = make_pipeline(embedder, LogisticRegression())
    assert pipeline.fit(photos, labels).predict(photos).shape == (12,)
    assert len(cross_val_score(pipeline, photos, labels, cv=3)) == 3
    stack = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    assert pipeline.fit(stack, labels).score(stack, labels) >= 0


def test_it_can_be_cloned_and_pickled(embedder, photos):
    """A clone has the parameters and nothing learnt; a pickled one goes on where it was."""
    expected = embedder.fit(photos).transform(photos)
    twin = clone(embedder)
    assert twin.get_params() == embedder.get_params()
    with pytest.raises(NotFittedError):
        twin.transform(photos)
    restored = pickle.loads(pickle.dumps(embedder))
    np.testing.assert_array_equal(restored.transform(photos), expected)


def test_another_space_is_refused(bundle_dir, make_bundle, tmp_path, photos):
    """What was fitted in one embedding space never gets embeddings of another."""
    embedder = HandfulEmbedder(bundle=bundle_dir).fit(photos)
    state = {**embedder.__getstate__(), "bundle": make_bundle(tmp_path / "other", seed=9)}
    other = HandfulEmbedder()
    other.__setstate__(state)
    with pytest.raises(errors.SpaceMismatch):
        other.transform(photos)


def test_failed_images(bundle_dir, photos):
    """Failed images raise, with all that did not fail; or are rows of NaN where that is wanted."""
    given = [photos[0], b"no image"]
    with pytest.raises(PartialFailure):
        HandfulEmbedder(bundle=bundle_dir).fit(given).transform(given)
    found = HandfulEmbedder(bundle=bundle_dir, errors="nan").fit(given).transform(given)
    assert np.isnan(found).any(axis=1).tolist() == [False, True]
    latent = HandfulEmbedder(bundle=bundle_dir, space="latent").fit(photos)
    assert latent.transform(photos).shape == (12, 4)


@pytest.mark.parametrize("bad", [{"url": "http://h", "bundle": "b"}, {"errors": "ignore"}])
def test_parameters_that_make_no_sense(bad):
    """Bad parameters are told by `fit`, as scikit-learn wants it."""
    with pytest.raises(errors.InputError):
        HandfulEmbedder(**bad).fit([])


def test_it_is_imported_only_when_asked_for():
    """The package imports neither scikit-learn nor numpy; without them the remedy is told."""
    code = """
import sys
sys.modules["sklearn"] = None  # as where it is not installed
import handful_client
assert "numpy" not in sys.modules
try:
    handful_client.HandfulEmbedder
except handful_client.errors.MissingExtra as error:
    assert "pip install 'handful-client[sklearn]'" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)

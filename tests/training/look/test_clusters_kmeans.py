"""Grouping rows: how many clusters there are, that none is empty, and that a seed decides all."""

import numpy as np
import pytest

from handful_training.clusters import features, kmeans
from handful_training.clusters.agreement import agreement
from handful_training.clusters.features import pixel_features
from handful_training.clusters.kmeans import choose_k, find_clusters
from handful_training.errors import InputError
from handful_training.whitening import Whitening


def blobs(k=5, per_cluster=40, spread=0.05, seed=0):
    rng = np.random.default_rng(seed)
    target = np.repeat(np.arange(k), per_cluster)
    rows = np.eye(k, 8)[target] + spread * rng.normal(size=(len(target), 8))
    order = rng.permutation(len(rows))
    return rows[order].astype(np.float32), target[order]


@pytest.mark.parametrize("k", [2, 5, 23, 200])
def test_k_is_kept_and_no_cluster_is_empty(k):
    """There are as many clusters as asked for, up to one per row; all have rows, the largest has
    the number 0, and distances are those from the cluster's mean.
    """
    rows, _ = blobs()
    found = find_clusters(rows, k, seed=0)
    assert len(found.sizes) == k
    assert found.sizes.min() >= 1
    assert found.sizes.sum() == len(rows) == len(found.distance)
    assert (np.diff(found.sizes) <= 0).all()
    centres = np.stack([rows[found.cluster == c].mean(0) for c in range(k)])
    away = np.linalg.norm(rows - centres[found.cluster], axis=1)
    np.testing.assert_allclose(found.distance, away, atol=1e-3)


def test_clusters_that_are_there_are_found():
    """Rows around five points fall into these five groups, and silhouette says so."""
    rows, target = blobs()
    found = find_clusters(rows, 5, seed=1)
    assert agreement(found.cluster, target).accuracy == 1
    assert found.silhouette > 0.7
    assert find_clusters(rows, 9, seed=1).silhouette < found.silhouette


@pytest.mark.parametrize("k", [3, 6])
def test_the_number_of_clusters_is_found(k):
    """The number with the largest silhouette is the number of groups that the rows were drawn
    from; every candidate is reported.
    """
    steps = []
    chosen, tried = choose_k(blobs(k)[0], seed=0, advance=lambda: steps.append(1))
    assert chosen == k
    assert tried[k] == max(tried.values())
    assert tuple(tried) == kmeans.CANDIDATES
    assert len(steps) == len(tried)


def test_the_same_seed_makes_the_same_clusters(monkeypatch):
    """A seed decides everything, also where centres are fitted on a sample; each row's centre is
    the nearest then too, and no cluster is empty.
    """
    monkeypatch.setattr(kmeans, "MAX_FIT", 60)
    monkeypatch.setattr(kmeans, "MAX_SILHOUETTE", 30)
    monkeypatch.setattr(kmeans, "_ROWS", 7)
    rows, target = blobs(spread=0.1)
    first, again = find_clusters(rows, 5, seed=4), find_clusters(rows, 5, seed=4)
    np.testing.assert_array_equal(first.cluster, again.cluster)
    np.testing.assert_array_equal(first.distance, again.distance)
    assert first.silhouette == again.silhouette
    assert agreement(first.cluster, target).accuracy == 1


@pytest.mark.parametrize(
    ("rows", "k"),
    [
        (np.ones((30, 4), np.float32), 2),
        (np.zeros((30, 0), np.float32), 2),
        (np.eye(3, dtype=np.float32).repeat(9, axis=0), 4),
        (np.eye(3, dtype=np.float32), 4),
        (np.eye(1, dtype=np.float32), 2),
        (np.eye(3, dtype=np.float32).repeat(9, axis=0) + np.geomspace(1e-9, 1e-7, 27)[:, None]
         .astype(np.float32), 4),
    ],
)  # fmt: skip
def test_more_clusters_than_different_rows_are_refused(rows, k):
    """All alike, or fewer different rows than clusters: an error that says how many there are."""
    with pytest.raises(InputError, match="smaller k"):
        find_clusters(rows, k, seed=0)
    if len(np.unique(rows.round(4), axis=0)) < 3 or not rows.shape[1]:
        with pytest.raises(InputError, match="too few to group"):
            choose_k(rows, seed=0)


def test_duplicates_are_no_trouble():
    """Where every row occurs many times, the number of different ones is the largest choice."""
    rows = np.eye(4, dtype=np.float32).repeat(25, axis=0)
    chosen, tried = choose_k(rows, seed=0)
    assert chosen in tried
    assert max(tried) < 4
    assert len(find_clusters(rows, 4, seed=0).sizes) == 4


def test_all_rows_are_embedded_in_order(monkeypatch, bundle_dir):
    """With more images than W is fitted on, each image's features stand in its own row and are
    those that it has by itself.
    """
    from handful_bundle.bundle import Bundle

    monkeypatch.setattr(features, "MAX_FIT", 40)
    encoder = Bundle.load(bundle_dir, device="cpu", threads=1).encoder
    images = np.random.default_rng(0).integers(0, 256, (150, 16, 16, 3), np.uint8)
    found = features.embedding_features(encoder, images, seed=0)
    sampled = np.sort(np.random.default_rng(0).choice(150, 40, replace=False))
    whiten = Whitening.fit(encoder(images[sampled]).embedding)
    np.testing.assert_allclose(found, whiten(encoder(images).embedding), atol=1e-4)


def test_the_control_is_pca_of_pixels():
    """The control's features keep the distances between images, as far as 50 components can."""
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 1), np.uint8)
    found = pixel_features(images, seed=0)
    pixels = images.reshape(30, -1) / 255
    for one, other in ((found[0] - found[1], pixels[0] - pixels[1]),):
        assert np.linalg.norm(one) == pytest.approx(np.linalg.norm(other), rel=1e-3)
    whitened = pixel_features(images, seed=0, whitened=True)
    np.testing.assert_allclose(np.linalg.norm(whitened, axis=1), 1, atol=1e-5)

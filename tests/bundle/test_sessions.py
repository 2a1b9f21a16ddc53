"""Encoder, decoder and head: any number of rows, none influenced by another."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from handful_bundle.batches import BUCKETS
from handful_bundle.bundle import Bundle
from handful_bundle.decoder import distortion, rate
from handful_bundle.session import cpu_quota


@pytest.fixture(scope="module")
def bundle(bundle_dir: Path) -> Bundle:
    return Bundle.load(bundle_dir, threads=1)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), np.uint8)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 63, 64, 65, 130, 200])
def test_rows_do_not_depend_on_their_batch(bundle: Bundle, count: int) -> None:
    """Whatever the batch and its padding, a row's outputs are those that it has alone."""
    batch = images(count)
    encoding = bundle.encoder(batch)
    decoding = bundle.decoder(encoding.mean)
    assert [len(part) for part in (*encoding, *decoding)] == [count] * 5
    for row in range(0, count, max(1, count // 5)):
        alone = bundle.encoder(batch[row : row + 1])
        for part, single in zip(encoding, alone, strict=True):
            np.testing.assert_allclose(part[row], single[0], atol=1e-6)
        np.testing.assert_array_equal(
            decoding.images[row], bundle.decoder(encoding.mean[row : row + 1]).images[0]
        )


@pytest.mark.parametrize("count", [60, 100])
@pytest.mark.parametrize("cuts", [[], [3], [1, 2, 40], [0, 30, 30], [60]])
def test_rows_in_several_arrays_are_rows(bundle: Bundle, cuts: list[int], count: int) -> None:
    """Images in several arrays, also empty ones, come out as those of one array do, in one batch
    and in several.
    """
    batch = images(count)
    found, expected = bundle.encoder(*np.split(batch, cuts)), bundle.encoder(batch)
    for part, whole in zip(found, expected, strict=True):
        np.testing.assert_allclose(part, whole, atol=1e-6)


def test_permuting_rows_permutes_answers(bundle: Bundle) -> None:
    """Row i of the answer belongs to row i of the question."""
    batch, order = images(50), np.random.default_rng(1).permutation(50)
    np.testing.assert_allclose(
        bundle.encoder(batch[order]).embedding, bundle.encoder(batch).embedding[order], atol=1e-6
    )


def test_sessions_may_be_shared_by_threads(bundle: Bundle) -> None:
    """Concurrent calls get their own answers."""
    batches = [images(1 + i % 9, seed=i) for i in range(40)]
    expected = [bundle.encoder(batch).embedding for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda batch: bundle.encoder(batch).embedding, batches))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_wrong_shapes_and_types_are_named(bundle: Bundle) -> None:
    """An array of another shape or type is refused with the expected one in the message."""
    for array in (images(1)[:, :15], images(1).astype(np.float32), images(1)[0]):
        with pytest.raises(ValueError, match=r"expected uint8 \[N, 16, 16, 3\]"):
            bundle.encoder(array)
    with pytest.raises(ValueError, match=r"expected float32 \[N, 4\]"):
        bundle.decoder(np.zeros((1, 5), np.float32))
    assert bundle.head is not None
    with pytest.raises(ValueError, match=r"expected float32 \[N, 8\]"):
        bundle.head(np.zeros((1, 8), np.float64))


def test_warming_up_runs_every_bucket(bundle: Bundle) -> None:
    """Buckets begin at one row, grow, and the encoder's batch limit is the largest."""
    bundle.encoder.warm_up()
    assert BUCKETS[0] == 1
    assert list(BUCKETS) == sorted(set(BUCKETS))
    assert bundle.encoder.max_batch == BUCKETS[-1]


def test_distortion_is_least_for_the_image_itself(bundle: Bundle) -> None:
    """Among images, the Bernoulli distortion is least for the decoder's own rounded mean; the
    rate is never negative and zero for the prior.
    """
    latent = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    decoding = bundle.decoder(latent)
    own = distortion(
        (decoding.likelihood > 0).astype(np.uint8) * 255, decoding.likelihood, "bernoulli"
    )
    other = distortion(images(6), decoding.likelihood, "bernoulli")
    assert (own < other).all()
    assert (rate(latent, latent) >= 0).all()
    np.testing.assert_array_equal(
        rate(np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32)), 0
    )


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_threads_follow_the_cgroup(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    """The quota of either cgroup version bounds the threads, rounded up."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    unlimited = cpu_quota(tmp_path / "nowhere")
    assert cpu_quota(tmp_path) == (unlimited if limit is None else min(limit, unlimited))

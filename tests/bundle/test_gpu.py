"""The same answers on a GPU, and a GPU that is really used (`make test-gpu`)."""

from pathlib import Path

import numpy as np
import pytest

from handful_bundle.bundle import Bundle

pytestmark = pytest.mark.gpu


def test_cuda_is_what_runs_when_it_is_asked_for(bundle_dir: Path) -> None:
    """Loading on CUDA ends with CUDA as the provider, golden examples checked on it."""
    assert Bundle.load(bundle_dir, device="cuda").provider == "cuda"


def test_auto_takes_the_gpu(bundle_dir: Path) -> None:
    """Where CUDA runs, `auto` uses it."""
    assert Bundle.load(bundle_dir).provider == "cuda"


@pytest.mark.parametrize("count", [1, 7, 64, 200])
def test_gpu_and_cpu_agree(bundle_dir: Path, count: int) -> None:
    """Embeddings, probabilities and decoded likelihoods differ by at most 1e-3."""
    cpu, gpu = (Bundle.load(bundle_dir, device=device) for device in ("cpu", "cuda"))
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)
    one, other = cpu.encoder(images), gpu.encoder(images)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-3)
    assert cpu.head is not None
    assert gpu.head is not None
    np.testing.assert_allclose(cpu.head(one.embedding), gpu.head(other.embedding), atol=1e-3)
    assert cpu.decoder is not None
    assert gpu.decoder is not None
    np.testing.assert_allclose(
        cpu.decoder(one.mean).likelihood, gpu.decoder(one.mean).likelihood, atol=1e-3
    )

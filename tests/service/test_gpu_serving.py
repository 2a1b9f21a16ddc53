"""The whole service on a real GPU (`make test-gpu`)."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handful_bundle.bundle import Bundle
from handful_bundle.pixels import decode

pytestmark = pytest.mark.gpu

NPY = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}


@pytest.fixture(scope="module")
def gpu_server(serve_session: Any, bundle_dir: Path) -> Any:
    server = serve_session(bundle_dir, "--device", "cuda", HANDFUL_MAX_BATCH="256")
    return server.wait_ready()


@pytest.fixture(scope="module")
def cpu(bundle_dir: Path) -> Bundle:
    return Bundle.load(bundle_dir, device="cpu", threads=2)


def test_cuda_is_what_answers(gpu_server: Any) -> None:
    """`/model` and the metric name CUDA as the provider that runs."""
    assert gpu_server.client.get("/model").json()["provider"] == "cuda"
    assert 'provider="cuda"' in gpu_server.client.get("/metrics").text


@pytest.mark.parametrize("count", [1, 3, 64, 256, 300])
def test_pixels_are_answered_as_on_the_cpu(gpu_server: Any, cpu: Bundle, count: int) -> None:
    """Embeddings of pixels in npy differ from the CPU's by at most 1e-3, in order."""
    pixels = np.random.default_rng(count).integers(0, 256, (count, 16, 16, 3), np.uint8)
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    answer = gpu_server.client.post("/embed", content=buffer.getvalue(), headers=NPY)
    assert answer.status_code == 200, answer.text
    found = np.load(io.BytesIO(answer.content))
    np.testing.assert_allclose(found, cpu.encoder(pixels).embedding, atol=1e-3)


def test_pictures_are_classified_as_on_the_cpu(gpu_server: Any, cpu: Bundle, picture: Any) -> None:
    """Probabilities of JPEGs, decoded beside the GPU, differ by at most 1e-3."""
    files = [picture(seed) for seed in range(40)]
    parts = [("images", (f"{n}.jpg", file, "image/jpeg")) for n, file in enumerate(files)]
    answer = gpu_server.client.post("/classify", files=parts)
    assert answer.status_code == 200, answer.text
    assert cpu.head is not None
    pixels = np.stack([decode(file, cpu.manifest.image) for file in files])
    expected = cpu.head(cpu.encoder(pixels).embedding)
    found = [list(p["probabilities"].values()) for p in answer.json()["predictions"]]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_drawn_images_are_those_of_the_cpu(gpu_server: Any, cpu: Bundle) -> None:
    """Decoded latents differ by at most one level of 255."""
    latents = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    headers = {"Accept": "application/x-npy"}
    body = {"latents": latents.tolist()}
    answer = gpu_server.client.post("/decode", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    found = np.load(io.BytesIO(answer.content)).astype(int)
    assert cpu.decoder is not None
    assert np.abs(found - cpu.decoder(latents).images).max() <= 1

"""Training on a GPU (`make test-gpu`)."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from handful_bundle.encoder import FILE, Encoder
from handful_bundle.manifest import ImageSpec
from handful_training.config import Config
from handful_training.export import PARITY, export
from handful_training.pretrain import Budget, pretrain

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("family", ["convolutional", "residual"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_network_from_the_gpu_is_exported_from_the_cpu(
    shapes: tuple[NDArray[np.uint8], NDArray], grey: ImageSpec, small: Config, tmp_path: Path,
    precision: str, family: str,
) -> None:  # fmt: skip
    """Each family learns in each precision, comes back to the CPU, and exports alike."""
    optimiser = small.optimiser.model_copy(update={"precision": precision})
    model = small.model.model_copy(update={"family": family})
    config = small.model_copy(update={"optimiser": optimiser, "model": model})
    trained = pretrain(shapes[0], grey, config, Budget(12, None), tmp_path, device="cuda")
    assert trained.history[-1].neg_elbo < 0.7 * trained.history[0].neg_elbo
    assert export(trained.model, shapes[0])[1] <= PARITY


def test_a_residual_network_of_colour_trained_in_bf16_serves_on_the_gpu(
    shapes: tuple[NDArray[np.uint8], NDArray], small: Config, tmp_path: Path
) -> None:
    """What a GPU makes of colour images above 32 pixels learns in bf16; its export is torch's
    within 1e-4, and runs on the GPU as on the CPU within 1e-3, in full batches and in odd ones.
    """
    images = coloured(shapes[0])
    spec = ImageSpec(height=48, width=48, channels=3)
    optimiser = small.optimiser.model_copy(update={"precision": "bf16-mixed"})
    model = small.model.model_copy(update={"family": "residual"})
    config = small.model_copy(update={"optimiser": optimiser, "model": model})
    trained = pretrain(images, spec, config, Budget(12, None), tmp_path, device="cuda")
    assert trained.history[-1].neg_elbo < trained.history[0].neg_elbo
    exported, apart = export(trained.model, images)
    assert apart <= PARITY
    cpu, gpu = (
        Encoder.open(exported.files[FILE], spec, exported.embedding_dim, exported.latent_dim, where)
        for where in ("cpu", "cuda")
    )
    assert gpu.provider == "cuda"
    for count in (1, 5, 64, 200):
        for mine, theirs in zip(gpu(images[:count]), cpu(images[:count]), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)


def coloured(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return grey images [n, 16, 16, 1] three times as large, each in a colour of its own."""
    tints = np.random.default_rng(0).uniform(0.3, 1, (len(grey), 1, 1, 3))
    return (grey.repeat(3, axis=1).repeat(3, axis=2) * tints).astype(np.uint8)

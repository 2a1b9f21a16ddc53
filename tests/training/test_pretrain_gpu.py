"""Training on a GPU (`make test-gpu`)."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

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

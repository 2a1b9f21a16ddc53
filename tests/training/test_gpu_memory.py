"""A GPU that is too small says what would fit."""

import pytest
import torch

from handful_training.errors import TrainingError
from handful_training.gpu_memory import explaining_full_gpu


def test_a_full_gpu_names_settings_that_need_less() -> None:
    """torch's error becomes one that halves the batch, and keeps how much was asked for."""
    with (
        pytest.raises(TrainingError, match=r"batch_size=128\).*family=convolutional") as raised,
        explaining_full_gpu(256),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB\nmore")
    assert "Tried to allocate 20.00 GiB" in str(raised.value)
    assert "more" not in str(raised.value)


def test_other_errors_pass() -> None:
    """What has nothing to do with memory stays what it is."""
    with pytest.raises(RuntimeError, match="shape"), explaining_full_gpu(256):
        raise RuntimeError("shape")


@pytest.mark.gpu
def test_a_real_gpu_says_so() -> None:
    """More memory than any GPU has is refused with the same words."""
    with pytest.raises(TrainingError, match="does not fit"), explaining_full_gpu(8):
        torch.empty(2**50, device="cuda")

"""A GPU that is too small, told with what would fit."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from handful_training.errors import TrainingError


@contextmanager
def explaining_full_gpu(batch_size: int) -> Iterator[None]:
    """Turn torch's error about a GPU's memory into one that names the settings that need less.

    Args:
        batch_size: images in the batch that did not fit.

    Raises:
        TrainingError: the memory did not suffice.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"a batch of {batch_size} images does not fit into the GPU's memory "
            f"({str(error).splitlines()[0][:200]}); start again with smaller batches (--set "
            f"optimiser.batch_size={max(2, batch_size // 2)}), smaller images (image.height and "
            "image.width) or the smaller network (model.family=convolutional), or stop what else "
            "uses the GPU"
        ) from error

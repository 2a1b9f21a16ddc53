"""Pixels as the network takes them in training; in the exported encoder the graph does it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def unit_tensor(pixels: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """Return uint8 [B, H, W, C] as float32 [B, C, H, W] in [0, 1] on the device."""
    batch = torch.from_numpy(pixels).to(device)
    return batch.permute(0, 3, 1, 2).contiguous().float().div_(255)

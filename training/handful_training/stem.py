"""The first convolution's filters, from the images themselves.

Principal components of small patches, each scaled to the same variance: what a whitening of
patches would give (Coates, Lee & Ng 2011, "An Analysis of Single-Layer Networks in Unsupervised
Feature Learning", AISTATS; as a network's first layer: Jordan 2024, "94% on CIFAR-10 in 3.29
Seconds", arXiv:2404.00498, section 3.1). Each component stands twice, with either sign, since
what follows is a ReLU. A network that begins with them need not find them in its first epochs;
it goes on to train them like all other weights.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

MAX_SAMPLE = 2000  # images that patches are taken from
_SAMPLE_PIXELS = 2**21  # pixels of them in all
STRIDE = 3  # of the patches
# Components below this share of the strongest one's variance are noise, not to be blown up.
NOISE = 1e-4
# Larger weights change more slowly under Adam, whose steps have one size for all.
SCALE = 0.3


def sample_rows(count: int, height: int, width: int) -> NDArray[np.int64]:
    """Return which of `count` images to take patches from: evenly spread, fewer of large ones."""
    most = min(count, MAX_SAMPLE, max(1, _SAMPLE_PIXELS // (height * width)))
    return np.linspace(0, count - 1, most).astype(np.int64)


def start_from_patches(convolution: nn.Conv2d, images: Tensor) -> None:
    """Set the filters of `convolution` to the scaled principal components of patches.

    Filters beyond twice the number of components keep their random weights, and so do all when
    the images have no contrast.

    Args:
        convolution: the first one, without padding considered.
        images: [N, C, H, W] in [0, 1], at least as large as a filter.
    """
    count, _, height, width = convolution.weight.shape
    patches = F.unfold(images, (height, width), stride=STRIDE).transpose(1, 2).flatten(0, 1)
    centred = (patches - patches.mean(0)).double()
    variance, axes = torch.linalg.eigh(centred.T @ centred / len(centred))
    variance, axes = variance.flip(0).clamp(min=0), axes.flip(1)
    if not variance[0] > 0:
        return
    kept = min(count // 2, len(variance))
    scaled = SCALE * axes[:, :kept] / (variance[:kept] + NOISE * variance[0]).sqrt()
    filters = scaled.T.reshape(kept, *convolution.weight.shape[1:]).to(convolution.weight)
    with torch.no_grad():
        convolution.weight[:kept] = filters
        convolution.weight[kept : 2 * kept] = -filters

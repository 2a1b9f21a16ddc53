"""Dynamic binarisation: grey images as distributions over binary ones.

x ~ Bernoulli(pixel / 255), each pixel by itself and anew at every use (Salakhutdinov & Murray
2008, "On the Quantitative Analysis of Deep Belief Networks", section 4.2; Burda et al. 2016,
arXiv:1509.00519, section 5). Only of such images is the Bernoulli likelihood a probability: the
cross entropy at a grey intensity is a loss that belongs to no distribution over pixels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from handful_bundle.manifest import ImageSpec, Likelihood
from handful_training.errors import InputError

_STREAM = (1,)  # so that latents drawn with an equal seed do not follow the pixels


def binarise(images: NDArray[np.uint8], seed: int | Sequence[int]) -> NDArray[np.uint8]:
    """Draw a binary image from each grey one.

    Args:
        images: uint8 of any shape; 0 stays 0, 255 stays 255.
        seed: of the draw; the same seed gives the same images.

    Returns:
        0 or 255 in each place, 255 with probability pixel / 255.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=_STREAM))
    # [0, 1) x 255 < 255 also in float32, so that white stays white.
    thresholds = rng.random(images.shape, np.float32) * np.float32(255)
    return np.where(thresholds < images, np.uint8(255), np.uint8(0))


def is_binary(images: NDArray[np.uint8]) -> bool:
    """Whether every pixel is 0 or 255."""
    return bool(((images == 0) | (images == 255)).all())


def check_binarisable(spec: ImageSpec, likelihood: Likelihood) -> None:
    """Refuse to binarise what a Bernoulli likelihood of grey images does not describe.

    Raises:
        InputError: the images are in colour, or p(x|z) is of another family.
    """
    if spec.channels != 1:
        raise InputError(
            "objective.binarise: the images are in colour, and only grey ones can be binarised; "
            "leave it out, or add --set image.channels=1"
        )
    if likelihood != "bernoulli":
        raise InputError(
            f"objective.binarise: binary images need the bernoulli likelihood, not {likelihood}; "
            "leave it out, or set model.likelihood=bernoulli"
        )

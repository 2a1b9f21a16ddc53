"""Random views of a batch of images: one affine warp, colour changes and an erased patch each.

Everything is drawn per image and applied to the whole batch as tensors, on the images' device.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from handful_training.config import AugmentConfig
from handful_training.draws import Part

# ITU-R BT.601 luma, as in handful_bundle.pixels
_LUMA = (0.299, 0.587, 0.114)


class Augment:
    """Draws views. Holds no state but its settings; the randomness comes from `generator`."""

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config

    def __call__(
        self, images: Tensor, generator: torch.Generator | None = None, part: Part | None = None
    ) -> Tensor:
        """Return one view of each image.

        Args:
            images: [B, C, H, W] in [0, 1], C = 1 or 3.
            generator: on the images' device; by default torch's own.
            part: which rows of a larger batch they are; the others are drawn for all the same.

        Returns:
            Views of the same shape, in [0, 1].
        """
        draw = _Draw(images, generator, part or Part.of(len(images), 0, 1))
        views = self._warp(images, draw)
        views = self._recolour(views, draw)
        if self.config.erase > 0:
            views = self._erase(views, draw)
        return views.clamp(0, 1)

    def _warp(self, images: Tensor, draw: "_Draw") -> Tensor:
        config = self.config
        angle = draw.around_zero(math.radians(config.rotation))
        zoom = torch.exp(draw.around_zero(math.log1p(config.zoom)))
        stretch = torch.exp(draw.around_zero(0.5 * math.log1p(config.stretch)))
        mirror_x = draw.sign() if config.flip else torch.ones_like(angle)
        mirror_y = draw.sign() if config.flip_vertical else torch.ones_like(angle)
        height, width = images.shape[-2:]
        cos, sin = torch.cos(angle), torch.sin(angle)
        # affine_grid maps output to input coordinates in [-1, 1] on both axes, so a rotation of
        # an oblong image has to be corrected by the aspect ratio.
        along_x, along_y = mirror_x * zoom * stretch, mirror_y * zoom / stretch
        theta = torch.stack(
            [
                torch.stack(
                    [
                        cos * along_x,
                        -sin * along_y * height / width,
                        draw.around_zero(2 * config.shift),
                    ],
                    1,
                ),
                torch.stack(
                    [
                        sin * along_x * width / height,
                        cos * along_y,
                        draw.around_zero(2 * config.shift),
                    ],
                    1,
                ),
            ],
            1,
        )
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(
            images, grid, mode="bilinear", padding_mode="border", align_corners=False
        )

    def _recolour(self, images: Tensor, draw: "_Draw") -> Tensor:
        config = self.config
        if images.shape[1] == 3:
            images = self._change_hue_and_saturation(images, draw)
        mean = images.mean((1, 2, 3), keepdim=True)
        contrast = 1 + draw.around_zero(config.contrast).view(-1, 1, 1, 1)
        brightness = 1 + draw.around_zero(config.brightness).view(-1, 1, 1, 1)
        return ((images - mean) * contrast + mean) * brightness

    def _change_hue_and_saturation(self, images: Tensor, draw: "_Draw") -> Tensor:
        """Rotate and scale the chroma plane of YIQ: linear, so it is one matrix per image."""
        config = self.config
        to_yiq = images.new_tensor([_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
        angle = draw.around_zero(2 * math.pi * config.hue)
        scale = 1 + draw.around_zero(config.saturation)
        zeros, ones = torch.zeros_like(angle), torch.ones_like(angle)
        cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
        turn = torch.stack([ones, zeros, zeros, zeros, cos, -sin, zeros, sin, cos], 1)
        matrix = torch.linalg.inv(to_yiq) @ turn.view(-1, 3, 3) @ to_yiq
        return torch.einsum("bij,bjhw->bihw", matrix, images)

    def _erase(self, images: Tensor, draw: "_Draw") -> Tensor:
        height, width = images.shape[-2:]
        rows = torch.arange(height, device=images.device).view(1, -1, 1)
        columns = torch.arange(width, device=images.device).view(1, 1, -1)
        tall = draw.unit() * self.config.erase * height
        wide = draw.unit() * self.config.erase * width
        top, left = draw.unit() * (height - tall), draw.unit() * (width - wide)
        top, left, tall, wide = (part.view(-1, 1, 1) for part in (top, left, tall, wide))
        inside = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
        return torch.where(inside.unsqueeze(1), 0.5, images)


class _Draw:
    """Per-image random numbers [B] for one batch."""

    def __init__(self, images: Tensor, generator: torch.Generator | None, part: Part) -> None:
        self._images = images
        self._generator = generator
        self._part = part

    def unit(self) -> Tensor:
        """Uniform in [0, 1)."""
        drawn = torch.rand(
            self._part.whole,
            device=self._images.device,
            dtype=self._images.dtype,
            generator=self._generator,
        )
        return drawn[self._part.rows]

    def around_zero(self, half_width: float) -> Tensor:
        """Uniform in [-half_width, half_width)."""
        return (2 * self.unit() - 1) * half_width

    def sign(self) -> Tensor:
        """-1 or 1."""
        return 2.0 * (self.unit() < 0.5) - 1

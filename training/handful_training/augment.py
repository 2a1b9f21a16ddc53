"""Random views of a batch of images: one affine warp, one change of colours, an erased patch.

Everything is drawn per image and applied to the whole batch as tensors, on the images' device.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from handful_training.config import AugmentConfig
from handful_training.draws import Part
from handful_training.presets import transforms

# ITU-R BT.601 luma, as in handful_bundle.pixels
_LUMA = (0.299, 0.587, 0.114)
_YIQ = (_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


class Augment:
    """Draws views. Holds no state but its settings; the randomness comes from `generator`."""

    def __init__(self, config: AugmentConfig) -> None:
        self.transforms = transforms(config)

    def __call__(
        self, images: Tensor, generator: torch.Generator | None = None, part: Part | None = None
    ) -> Tensor:
        """Return one view of each image.

        Args:
            images: [B, C, H, W] in [0, 1], C = 1 or 3.
            generator: on the images' device; by default torch's own.
            part: which rows of a larger batch they are; the others are drawn for all the same.

        Returns:
            Views of the same shape, in [0, 1]; the images themselves where nothing is asked for.
        """
        ask = self.transforms
        draw = _Draw(images, generator, part or Part.of(len(images), 0, 1))
        views = self._warp(images, draw) if ask.moves else images
        if images.shape[1] == 3 and (ask.turns_colours or ask.recolours):
            views = self._recolour(views, draw)
        elif ask.recolours:
            views = self._relight(views, draw)
        if ask.erase > 0:
            views = self._erase(views, draw)
        return views

    def _warp(self, images: Tensor, draw: "_Draw") -> Tensor:
        ask = self.transforms
        angle = draw.around_zero(math.radians(ask.rotation))
        if ask.quarter_turns:
            angle = angle + 0.5 * math.pi * torch.floor(4 * draw.unit())
        zoom = torch.exp(draw.around_zero(math.log1p(ask.zoom)))
        stretch = torch.exp(draw.around_zero(0.5 * math.log1p(ask.stretch)))
        mirror_x = draw.sign() if ask.flip else torch.ones_like(angle)
        mirror_y = draw.sign() if ask.flip_vertical else torch.ones_like(angle)
        window = 1 - ask.crop * draw.unit()  # side of the cut-out
        slant = draw.around_zero(ask.shear)
        height, width = images.shape[-2:]
        cos, sin = torch.cos(angle), torch.sin(angle)
        # Output to input coordinates, in [-1, 1] on both axes, so a rotation or a slant of an
        # oblong image has to be corrected by the aspect ratio.
        along_x, along_y = mirror_x * zoom * stretch * window, mirror_y * zoom / stretch * window
        tall = height / width
        xx, yx = cos * along_x, sin * along_x / tall
        xy, yy = (slant * cos - sin) * along_y * tall, (slant * sin + cos) * along_y
        x, y = (
            draw.around_zero(2 * ask.shift) + (1 - window) * draw.around_zero(1) for _ in range(2)
        )
        grid = images.new_empty((len(images), height, width, 2))
        columns, rows = _centres(width, images), _centres(height, images)[:, None]
        for axis, parts in enumerate(((xx, xy, x), (yx, yy, y))):
            by_x, by_y, offset = (part.view(-1, 1, 1) for part in parts)
            torch.add(by_x * columns, by_y * rows + offset, out=grid[..., axis])
        return F.grid_sample(
            images, grid, mode="bilinear", padding_mode=ask.padding, align_corners=False
        )

    def _relight(self, images: Tensor, draw: "_Draw") -> Tensor:
        """Change contrast about the image's mean, then brightness: one scale and one offset."""
        contrast, scale = self._light(draw)
        mean = images.mean((1, 2, 3))
        offset = mean * (scale - contrast * scale)
        return torch.addcmul(
            offset.view(-1, 1, 1, 1), images, (contrast * scale).view(-1, 1, 1, 1)
        ).clamp_(0, 1)

    def _recolour(self, images: Tensor, draw: "_Draw") -> Tensor:
        """Rotate and scale the chroma plane of YIQ, then relight: one matrix per image."""
        ask = self.transforms
        to_yiq = images.new_tensor(_YIQ)
        angle = draw.around_zero(2 * math.pi * ask.hue)
        chroma = 1 + draw.around_zero(ask.saturation)
        if ask.grey > 0:
            chroma = chroma * (draw.unit() >= ask.grey)
        zeros, ones = torch.zeros_like(angle), torch.ones_like(angle)
        cos, sin = chroma * torch.cos(angle), chroma * torch.sin(angle)
        turn = torch.stack([ones, zeros, zeros, zeros, cos, -sin, zeros, sin, cos], 1)
        matrix = torch.linalg.inv(to_yiq) @ turn.view(-1, 3, 3) @ to_yiq
        contrast, scale = self._light(draw)
        flat = images.flatten(2)
        mean = (matrix @ flat.mean(2, keepdim=True)).mean(1, keepdim=True)  # of the turned colours
        offset = mean * (scale - contrast * scale).view(-1, 1, 1)
        matrix = matrix * (contrast * scale).view(-1, 1, 1)
        return torch.baddbmm(offset, matrix, flat).clamp_(0, 1).view(images.shape)

    def _light(self, draw: "_Draw") -> tuple[Tensor, Tensor]:
        contrast = 1 + draw.around_zero(self.transforms.contrast)
        return contrast, 1 + draw.around_zero(self.transforms.brightness)

    def _erase(self, images: Tensor, draw: "_Draw") -> Tensor:
        height, width = images.shape[-2:]
        rows = torch.arange(height, device=images.device).view(1, -1, 1)
        columns = torch.arange(width, device=images.device).view(1, 1, -1)
        tall = draw.unit() * self.transforms.erase * height
        wide = draw.unit() * self.transforms.erase * width
        top, left = draw.unit() * (height - tall), draw.unit() * (width - wide)
        top, left, tall, wide = (part.view(-1, 1, 1) for part in (top, left, tall, wide))
        inside = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
        return torch.where(inside.unsqueeze(1), 0.5, images)


def _centres(count: int, like: Tensor) -> Tensor:
    """Return where pixel centres lie in [-1, 1], [count], as `grid_sample` counts them."""
    places = torch.arange(count, device=like.device, dtype=like.dtype)
    return (2 * places + 1) / count - 1


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

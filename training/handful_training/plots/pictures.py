"""Plots that are made of images: reconstructions, samples, traversals, named rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from handful_training.plots.canvas import INK, SOFT, canvas, save, shorten

GAP = 0.12  # between images, of their side
PER_ROW = 8  # pairs of original and reconstruction


def reconstructions(
    images: NDArray[np.uint8], reconstructed: NDArray[np.uint8], path: Path
) -> None:
    """Draw each image above what the model makes of it.

    Args:
        images: [n, H, W, C], n >= 1.
        reconstructed: decoded posterior means of the same images, [n, H, W, C].
        path: where the PNG goes.
    """
    columns = min(PER_ROW, len(images))
    bands = -(-len(images) // columns)
    width = max(4.6, 0.85 * columns + 1.2)
    aspect = images.shape[1] / images.shape[2]
    height = 0.75 + bands * (2 * aspect + 0.25) * (width - 1.2) / columns
    figure = canvas(
        width, height, "Reconstructions", "each image, and below it decode(posterior mean)"
    )
    all_axes = figure.subplots(bands, 1, squeeze=False)[:, 0]
    for band, axes in enumerate(all_axes):
        part = slice(band * columns, (band + 1) * columns)
        rows = np.stack([_fill(images[part], columns), _fill(reconstructed[part], columns)])
        _show(axes, rows)
        _label_rows(axes, rows, ["image", "decoded"])
    save(figure, path)


def samples(images: NDArray[np.uint8], path: Path) -> None:
    """Draw images [n, H, W, C], n >= 1, decoded from draws of the prior, in a square."""
    columns = int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    shape = (rows, columns, *images.shape[1:])
    width = max(4.6, 0.62 * columns)
    height = 0.65 + width * rows * images.shape[1] / (columns * images.shape[2])
    figure = canvas(width, height, "Samples", "decode(z), z drawn from the prior N(0, I)")
    _show(figure.subplots(), _fill(images, rows * columns).reshape(shape))
    save(figure, path)


def traversals(
    images: NDArray[np.uint8],
    dimensions: NDArray[np.integer],
    kl: NDArray[np.floating],
    path: Path,
    *,
    values: NDArray[np.floating] | None = None,
) -> None:
    """Draw what single latent dimensions do: a row each, the others held fixed.

    Args:
        images: decoded, [R, S, H, W, C]; S steps along each of R dimensions.
        dimensions: which ones, [R]; best the active ones, by KL descending.
        kl: mean KL of each, nats, [R].
        path: where the PNG goes.
        values: of the latent at the steps, [S]; -3 ... 3 in equal steps unless given.
    """
    steps = images.shape[1]
    values = np.linspace(-3, 3, steps) if values is None else values
    strips(
        images,
        path,
        title="Latent traversals",
        subtitle="one dimension varied per row, the others held fixed",
        names=[f"z{d}  {k:.2f} nats" for d, k in zip(dimensions, kl, strict=True)],
        columns=[f"{value:+.1f}".replace("-", "−") for value in values],
        axis="value of the latent (standard deviations of the prior)",
    )


def strips(
    images: NDArray[np.uint8],
    path: Path,
    *,
    title: str,
    subtitle: str,
    names: Sequence[str],
    columns: Sequence[str] = (),
    axis: str = "",
    tight: bool = False,
) -> None:
    """Draw named rows of images.

    Args:
        images: [R, S, H, W, C], R, S >= 1.
        path: where the PNG goes.
        title: the figure's.
        subtitle: one line below it.
        names: of the rows, [R].
        columns: what stands below each column, [S], if anything.
        axis: what these are.
        tight: leave no gaps between the images.
    """
    rows, steps, *_ = images.shape
    names = [shorten(name, 32) for name in names]
    beside = 0.2 + 0.075 * max(map(len, names))
    cell = min(0.62, 13 / steps, 13 * images.shape[3] / (rows * images.shape[2]))
    width = max(5.0, 0.078 * len(subtitle), cell * steps + beside)
    below = 0.5 if columns else 0.1
    height = 0.7 + below + rows * cell * images.shape[2] / images.shape[3]
    figure = canvas(width, height, title, subtitle)
    axes = figure.subplots()
    _show(axes, images, gap=0 if tight else GAP)
    _label_rows(axes, images, names, gap=0 if tight else GAP)
    if columns:
        gap = 0 if tight else GAP
        pitch = images.shape[3] * (1 + gap)
        axes.set_xticks((np.arange(steps) + 0.5) * pitch - gap / 2 * images.shape[3] - 0.5)
        axes.set_xticklabels([shorten(name) for name in columns])
        axes.set_xlabel(axis, fontsize=9, color=INK)
    save(figure, path)


def _fill(images: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Append white images until there are `count`."""
    blank = np.full((count - len(images), *images.shape[1:]), 255, np.uint8)
    return np.concatenate([images, blank])


def _show(axes: Axes, images: NDArray[np.uint8], gap: float = GAP) -> None:
    """Show images [rows, columns, H, W, C] as one picture with white gaps."""
    rows, columns, height, width, channels = images.shape
    # Enlarged first, so that gaps of a fraction of a pixel can be drawn and pixels stay crisp.
    zoom = max(1, 96 // max(height, width))
    images = images.repeat(zoom, axis=2).repeat(zoom, axis=3)
    down, across = round(height * zoom * gap), round(width * zoom * gap)
    pad = ((0, 0), (0, 0), (0, down), (0, across), (0, 0))
    padded = np.pad(images, pad, constant_values=255)
    picture = padded.transpose(0, 2, 1, 3, 4).reshape(
        rows * (height * zoom + down), columns * (width * zoom + across), channels
    )[: -down or None, : -across or None]
    picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
    extent = (-0.5, picture.shape[1] / zoom - 0.5, picture.shape[0] / zoom - 0.5, -0.5)
    axes.imshow(picture, extent=extent, interpolation="antialiased", aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(length=0, labelsize=8, labelcolor=SOFT)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _label_rows(
    axes: Axes, images: NDArray[np.uint8], names: Sequence[str], gap: float = GAP
) -> None:
    height = images.shape[2]
    axes.set_yticks((np.arange(len(names)) + 0.5) * height * (1 + gap) - gap / 2 * height - 0.5)
    axes.set_yticklabels(names)

"""Plots of how training went: loss terms by epoch, use of the latent dimensions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from handful_training.likelihood import ACTIVE_NATS
from handful_training.plots.canvas import BLUE, FAINT, INK, SOFT, canvas, save, tidy

PANELS = (
    ("neg_elbo", "−ELBO", "nats per image"),
    ("distortion", "Distortion, −log p(x|z)", "nats per image"),
    ("rate", "Rate, KL(q(z|x) ‖ p(z))", "nats per image"),
    ("invariance", "Invariance loss, InfoNCE", "nats"),
)
MAX_BARS = 256


def learning_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw −ELBO, distortion, rate and invariance loss by epoch.

    Args:
        history: one mapping per epoch with `epoch`, `neg_elbo`, `distortion`, `rate` and
            `invariance`; empty where not one epoch was finished.
        path: where the PNG goes.
    """
    figure = canvas(8.4, 5.6, "Learning curves", "means over each epoch's training images")
    epochs = [row["epoch"] for row in history]
    for axes, (key, title, unit) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        values = [row[key] for row in history]
        axes.plot(epochs, values, color=BLUE, linewidth=1.8, marker="o", markersize=3.2)
        tidy(axes)
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.set_xlabel("epoch", fontsize=9, color=SOFT)
        axes.set_ylabel(unit, fontsize=9, color=SOFT)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(x=0.08, y=0.15)
        if values:
            axes.annotate(
                f"{values[-1]:.4g}", (epochs[-1], values[-1]), xytext=(0, 6),
                textcoords="offset points", ha="center", fontsize=8.5, color=INK,
            )  # fmt: skip
        else:
            axes.text(0.5, 0.5, "no finished epoch", transform=axes.transAxes, ha="center")
    save(figure, path)


def kl_per_dimension(kl: NDArray[np.floating], path: Path) -> None:
    """Draw the mean KL of every latent dimension, nats, sorted; [D], D >= 1."""
    ordered = np.sort(kl)[::-1]
    active = int((ordered > ACTIVE_NATS).sum())
    figure = canvas(
        7.6, 3.8, "Use of the latent dimensions",
        f"{active} of {len(kl)} carry more than {ACTIVE_NATS} nats; "
        f"{float(ordered.sum()):.1f} nats in all",
    )  # fmt: skip
    axes = figure.subplots()
    shown = ordered[:MAX_BARS]
    colours = [BLUE if value > ACTIVE_NATS else FAINT for value in shown]
    axes.bar(np.arange(1, len(shown) + 1), shown, color=colours, width=0.8)
    tidy(axes)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("dimensions, sorted by KL", fontsize=9, color=SOFT)
    axes.set_ylabel("mean KL(q(z|x) ‖ p(z)), nats", fontsize=9, color=SOFT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.01)
    save(figure, path)

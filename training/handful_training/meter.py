"""What a training tells of itself, epoch by epoch."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Epoch:
    """Means over one epoch's training images. Distortion, rate and -ELBO in nats per image."""

    epoch: int
    step: int  # optimiser steps so far
    loss: float
    distortion: float
    rate: float
    neg_elbo: float  # with beta = 1, whatever was optimised
    invariance: float  # InfoNCE, nats; 0 where it is switched off
    learning_rate: float
    images_per_second: float
    seconds: float  # of training so far


class Meter:
    """Sums of the loss's terms since the last epoch, kept on the device until asked for."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self.images = 0
        self._since = time.monotonic()

    def add(self, terms: dict[str, Tensor], images: int) -> None:
        """Count one batch: means of the terms over its images."""
        for name, value in terms.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1
        self.images += images

    def finite(self) -> bool:
        """Whether every term so far is a number. Waits for the device."""
        return all(math.isfinite(float(value)) for value in self._sums.values())

    def state(self) -> dict[str, Any]:
        """Return what `load` continues from."""
        return {
            "sums": {name: value.cpu() for name, value in self._sums.items()},
            "steps": self._steps,
            "images": self.images,
            "seconds": time.monotonic() - self._since,
        }

    def load(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on in the middle of an epoch."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._steps, self.images = state["steps"], state["images"]
        self._since = time.monotonic() - state["seconds"]

    def means(self) -> dict[str, float]:
        """Return the means of the terms over the batches so far."""
        return {name: float(value) / self._steps for name, value in self._sums.items()}

    def finish(self, epoch: int, step: int, learning_rate: float, seconds: float) -> Epoch:
        """Return the means and begin anew."""
        means = self.means()
        row = Epoch(
            epoch=epoch,
            step=step,
            neg_elbo=means["distortion"] + means["rate"],
            learning_rate=learning_rate,
            images_per_second=self.images / max(1e-9, time.monotonic() - self._since),
            seconds=seconds,
            **means,
        )
        self._begin()
        return row

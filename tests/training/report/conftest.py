"""Findings as a run stores them, with standings whose scores are known."""

from collections.abc import Callable

import numpy as np
import pytest

from handful_training.ladder import catalogue as name
from handful_training.ladder.climb import Standing
from handful_training.report.findings import Data, Findings, Ladder


def standing(right: np.ndarray, classes: int = 3) -> Standing:
    """Return a rung that is right just where it is said to be."""
    target = np.arange(len(right)) % classes
    answer = np.where(right, target, (target + 1) % classes)
    probabilities = np.full((len(right), classes), 0.1, np.float32)
    probabilities[np.arange(len(right)), answer] = 1 - 0.1 * (classes - 1)
    return Standing(probabilities, target, 0.5)


@pytest.fixture(scope="session")
def made() -> Callable[..., Findings]:
    """Make findings: images on which both are right, only the control is, only the VAE is, none."""

    def make(both: int, control: int, vae: int, none: int, *, on="out of fold") -> Findings:
        of_control = np.repeat([True, True, False, False], (both, control, vae, none))
        of_vae = np.repeat([True, False, True, False], (both, control, vae, none))
        standings = {
            name.PIXELS_LINEAR: standing(np.zeros(len(of_vae), bool)),
            name.PIXELS_GRAPH_WHITENED: standing(of_control),
            name.VAE_SERVED: standing(of_vae),
        }
        n = len(of_vae)
        return Findings(
            data=Data(
                source="photos", images=5000, rejected=3, duplicates=7, shape=(16, 16, 3),
                classes={"bolt": n - 2, "nut": 1, "washer": 1},
            ),
            ladder=Ladder.of(on, standings, name.VAE_SERVED),
        )  # fmt: skip

    return make

"""Training for a likelihood of binary images, by the real commands."""

from pathlib import Path
from typing import Any

from handful_bundle.bundle import Bundle

SMALL = ("image.max_side=16", "model.width=4", "model.embedding_dim=16", "model.latent_dim=4",
         "optimiser.batch_size=32")  # fmt: skip
BINARISE = "--set=objective.binarise=true"


def test_grey_images_can_be_binarised(place: Any) -> None:
    """An export of grey images with `objective.binarise` reports bounds on a true likelihood."""
    settings = (*SMALL, "image.channels=1", "objective.free_bits=0.02")
    result = place.result(
        "export", place.images, "--name", "binary", "--epochs", "2", BINARISE,
        *(f"--set={setting}" for setting in settings),
    )  # fmt: skip
    metrics = Bundle.load(Path(result["bundle"])).manifest.metrics
    assert metrics["is_log_likelihood"] == 1
    assert metrics["iwae_gain_nats"] > 0
    assert result["neg_iwae_nats"] == metrics["neg_iwae_nats"]


def test_colour_images_cannot(place: Any) -> None:
    """Asked to binarise colour images, the command ends with status 2 and the remedy."""
    done = place.train(
        "pretrain", place.images, "--epochs", "1", "--set=image.max_side=16", BINARISE
    )
    assert done.returncode == 2
    assert "image.channels=1" in done.stderr.splitlines()[-1]

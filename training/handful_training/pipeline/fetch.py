"""From a reference on the command line to an open bundle."""

from pathlib import Path

from handful_bundle.bundle import Bundle
from handful_bundle.session import Device
from handful_training.tracking import Tracker, Version


def fetch(tracker: Tracker, reference: str, work: Path, device: Device) -> tuple[Version, Bundle]:
    """Return the version that `reference` names, and its bundle, downloaded below `work`.

    Raises:
        InputError: there is no such version.
        TrainingError: MLflow failed.
    """
    version = tracker.registry.resolve(reference)
    return version, Bundle.load(tracker.registry.download(*version, work), device=device)

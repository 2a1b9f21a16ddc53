"""A folder → a model that answers: verified, warmed, then put in place of the one before."""

import logging
from pathlib import Path

from handful_bundle.bundle import Bundle
from handful_service.metrics import Metrics
from handful_service.serving import Models, Served, manifest_version
from handful_service.settings import Settings

_log = logging.getLogger(__name__)


class Loader:
    """Loads bundles beside the one that answers.

    Args:
        settings: device, its memory, threads and the largest batch.
        models: where a loaded model is put.
        metrics: is told of each model put in place.
    """

    def __init__(self, settings: Settings, models: Models, metrics: Metrics) -> None:
        self._settings = settings
        self._models = models
        self._metrics = metrics

    def load(self, root: Path, version: str | None = None) -> Served | None:
        """Let the bundle in `root` answer from now on; return the model before.

        Nothing changes before the bundle has been verified and has run in every batch size.

        Args:
            root: the bundle's folder.
            version: the registry's number; None: the manifest's digest stands for it.

        Raises:
            BundleError: the bundle is not to be trusted.
            DeviceUnavailable: the device that was asked for does not run here.
            DeviceOutOfMemory: it has no room for a second model.
            DeviceFailed: it runs nothing any more.
        """
        current = self._models.current
        bundle = Bundle.load(
            root,
            device=self._settings.device,
            threads=self._settings.threads,
            gpu_memory_bytes=self._settings.gpu_memory_bytes,
            reuse=current.bundle if current is not None else None,
        )
        return self.put(Served(bundle, version or manifest_version(bundle)))

    def put(self, served: Served) -> Served | None:
        """Warm `served`, then let it answer; return the model before."""
        served.warm_up(self._settings.max_batch)
        before = self._models.swap(served)
        self._metrics.serving(served)
        _log.info(
            "serving %s version %s on %s, space %s",
            served.name, served.version, served.bundle.provider, served.space,
        )  # fmt: skip
        return before

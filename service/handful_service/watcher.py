"""Follows the registry: what the alias means becomes what answers, without a lost request.

One thread beside the event loop. It starts from the cache, so a registry that is away delays
nothing; it looks at the newest meaning of the alias only, so flapping is coalesced; it waits for
the model before last to be released, so at most two are resident; a version is tried in a process
of its own before it is loaded here; and whatever goes wrong, the model that answers stays.
"""

import logging
import threading
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from handful_bundle.bundle import MANIFEST, check_listing
from handful_bundle.errors import BundleCorrupt, BundleError, HandfulError
from handful_service.cache import Cache
from handful_service.loading import Loader
from handful_service.metrics import Metrics
from handful_service.registry import Registry
from handful_service.serving import Models, Served
from handful_service.trial import Trial

_log = logging.getLogger(__name__)
_LONGEST_WAIT = 300.0  # seconds between two tries of a version that was refused
_MOST_REFUSED = 100  # versions that are remembered as refused


class _Refused(NamedTuple):
    times: int
    until: float  # time.monotonic() before which it is not tried again


class Watcher:
    """Keeps the model that answers in step with the registry.

    Args:
        registry: what to follow.
        cache: where its bundles are kept.
        trial: loads each of them first, elsewhere.
        loader: puts a bundle in place.
        models: what answers now.
        metrics: counts polls and refusals.
        poll_seconds: between two looks.
    """

    def __init__(
        self,
        registry: Registry,
        cache: Cache,
        trial: Trial,
        loader: Loader,
        models: Models,
        metrics: Metrics,
        poll_seconds: float,
    ) -> None:
        self._registry = registry
        self._cache = cache
        self._trial = trial
        self._loader = loader
        self._models = models
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._stopped = threading.Event()
        self._refused: dict[str, _Refused] = {}  # by version
        self._before: Served | None = None  # the model before the one that answers
        self._complaint = ""
        # A daemon: a download that hangs must not keep the process from stopping.
        self._thread = threading.Thread(target=self._follow, name="registry", daemon=True)

    def start(self) -> None:
        """Begin, with what the cache has."""
        self._models.reason = "the registry has not been asked yet and the cache is empty"
        self._thread.start()

    def close(self) -> None:
        """Look no more. A download under way is left to end with the process, a trial is ended."""
        self._stopped.set()
        self._trial.close()

    def _follow(self) -> None:
        self._start_from_cache()
        while not self._stopped.is_set():
            try:
                self._look()
            except Exception:  # noqa: BLE001 - the watcher outlives whatever a registry may do
                _log.exception("the registry could not be followed")
            self._stopped.wait(self._poll_seconds)

    def _start_from_cache(self) -> None:
        known = self._cache.recall(self._registry.key)
        if known is None:
            return
        try:
            self._loader.load(known.root, known.version)
        except (HandfulError, OSError) as error:
            _log.warning("the cached bundle is not used: %s", error)
            self._cache.discard(known.root)

    def _look(self) -> None:
        if self._before is not None and self._before.released.is_set():
            self._before = None
        try:
            version = self._registry.resolve()
        except HandfulError as error:
            self._metrics.polls.labels("failed").inc()
            self._complain(str(error))
            return
        self._metrics.polls.labels("ok").inc()
        if self._complaint:
            _log.info("the registry answers again")
            self._complaint = ""
        current = self._models.current
        behind = current is None or current.version != version
        self._metrics.behind.set(behind)
        if not behind:
            return
        refused = self._refused.get(version)
        if refused and time.monotonic() < refused.until:
            return
        if self._before is not None:  # it still answers its last requests
            if self._before.released.wait(self._poll_seconds):
                self._look()  # the alias may have moved meanwhile
            return
        self._swap(version)

    def _swap(self, version: str) -> None:
        root: Path | None = None
        try:
            offer = self._registry.offer(version)
            check_listing(offer.sizes)
            root = self._cache.fetch(partial(self._download, version))
            _check_recorded(root, offer.manifest)
            self._trial.run(root)
            self._before = self._loader.load(root, version)
        except Exception as error:  # noqa: BLE001 - refused, for whatever reason: the old one stays
            if root is not None and isinstance(error, BundleError):
                self._cache.discard(root)
            self._refuse(version, error)
            return
        self._refused.clear()
        self._metrics.behind.set(0)
        try:
            self._cache.remember(self._registry.key, version, root)
        except OSError as error:
            _log.warning("the cache cannot be written (%s); a restart will need the registry",
                         error.strerror)  # fmt: skip

    def _download(self, version: str, file: str, target: Path) -> None:
        self._registry.download(version, file, target)
        self._metrics.fetched_bytes.inc(target.stat().st_size)

    def _refuse(self, version: str, error: Exception) -> None:
        self._metrics.swap_failures.inc()
        before = self._refused.pop(version, None)
        times = before.times + 1 if before else 1
        wait = min(_LONGEST_WAIT, self._poll_seconds * 2**times)
        self._refused[version] = _Refused(times, time.monotonic() + wait)
        while len(self._refused) > _MOST_REFUSED:
            del self._refused[next(iter(self._refused))]  # the one that was refused longest ago
        known = isinstance(error, (HandfulError, OSError))
        _log.error("version %s is refused: %s", version, error, exc_info=None if known else error)
        if self._models.current is None:
            self._models.reason = f"version {version} of the model is refused, see the log"

    def _complain(self, complaint: str) -> None:
        """Log what is wrong once, not at each look."""
        if self._models.current is None:
            self._models.reason = f"{complaint}, and the cache is empty"
        if complaint != self._complaint:
            _log.warning("%s", complaint)
            self._complaint = complaint


def _check_recorded(root: Path, recorded: str | None) -> None:
    """Check that the manifest is the one that was registered: it alone has no digest of its own."""
    if recorded is not None and recorded != f"sha256:{root.name}":
        raise BundleCorrupt(
            f"{MANIFEST} arrived as sha256:{root.name}, the registry recorded {recorded:.80}; "
            "register the version again"
        )

"""Which bundle answers, and how its parts are run. Knows no HTTP and no registry.

A request leases the model that is current when it arrives and keeps it to its end, so an answer
never mixes two versions. A model that has been replaced is let go when its last lease ends.
"""

import hashlib
import math
import threading
import timeit
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_bundle.batches import joined
from handful_bundle.bundle import MANIFEST, Bundle
from handful_bundle.decoder import Decoder, distortion, rate
from handful_service.errors import ServiceError
from handful_service.work import Columns

_QUICK_SECONDS = 5e-4


class Served:
    """One loaded bundle and the lanes that rows run through (see `batching.Lane`)."""

    def __init__(self, bundle: Bundle, version: str) -> None:
        self.bundle = bundle
        self.version = version
        self.row_bytes = math.prod(bundle.manifest.image.shape)  # of one image's pixels
        self.on_cpu = bundle.provider == "cpu"
        self.headers = [  # of its answers
            (b"x-model-version", version.encode()),
            (b"x-embedding-space", bundle.manifest.space.encode()),
        ]
        self._row_seconds = math.inf
        self._leases = 0
        self._replaced = False
        self.released = threading.Event()  # replaced, and nobody uses it any more

    @property
    def name(self) -> str:
        """The model's name."""
        return self.bundle.manifest.name

    @property
    def space(self) -> str:
        """The digest of the embedding space."""
        return self.bundle.manifest.space

    def warm_up(self, rows: int) -> None:
        """Run every part once in every batch size that batches of `rows` rows or fewer need."""
        self.bundle.encoder.warm_up(rows)
        if self.bundle.head is not None:
            self.bundle.head.warm_up(rows)
        if self.bundle.decoder is not None:
            self.bundle.decoder.warm_up(rows)
        if self.on_cpu:
            one = np.zeros((1, *self.bundle.manifest.image.shape), np.uint8)
            self._row_seconds = min(timeit.repeat(lambda: self.encode(one), number=1, repeat=3))

    def is_quick(self, rows: int) -> bool:
        """Whether to encode so many takes so little that the event loop may wait for it."""
        return rows * self._row_seconds < _QUICK_SECONDS

    def encode(self, *images: NDArray[Any]) -> Columns:
        """uint8 [n, H, W, C] → embedding [n, E], mean [n, D], log variance [n, D].

        Where there is a head, its columns follow: they cost next to nothing, and so requests to
        embed and to classify share their batches.
        """
        encoding = self.bundle.encoder(*images)
        if self.bundle.head is None:
            return tuple(encoding)
        return (*encoding, *self.classify(encoding.embedding))

    def classify(self, *embeddings: NDArray[Any]) -> Columns:
        """float32 [n, E] → probabilities [n, K] and, where the head tells it, novelty [n]."""
        if self.bundle.head is None:
            raise no_head(self.name)
        probabilities, novelty = self.bundle.head.judge(joined(embeddings))
        return (probabilities,) if novelty is None else (probabilities, novelty)

    def decode(self, *latents: NDArray[Any]) -> Columns:
        """float32 [n, D] → images uint8 [n, H, W, C], whether p(x|z) is finite bool [n]."""
        images, likelihood = self.decoder(joined(latents))
        finite = np.asarray(np.isfinite(likelihood).all(axis=(1, 2, 3)))
        return images, finite

    def reconstruct(self, *parts: NDArray[Any]) -> Columns:
        """uint8 [n, H, W, C] → the same decoded from its mean, distortion [n], rate [n] in nats."""
        images = joined(parts)
        encoding = self.bundle.encoder(images)
        decoder = self.decoder
        decoding = decoder(encoding.mean)
        return (
            decoding.images,
            distortion(images, decoding.likelihood, decoder.likelihood),
            rate(encoding.mean, encoding.log_variance),
        )

    @property
    def decoder(self) -> Decoder:
        """The decoder.

        Raises:
            ServiceError: the bundle has none.
        """
        if self.bundle.decoder is None:
            raise ServiceError(
                "no_decoder",
                "This model was exported without decoder.onnx; export it again with "
                "`handful-train export`, or serve one that has a decoder.",
            )
        return self.bundle.decoder


def no_head(name: str) -> ServiceError:
    """Return the refusal to classify without a head, with the command that fits one."""
    return ServiceError(
        "no_head", f"Fit a head first: `handful-train head {name} IMAGES --labels LABELS.csv`."
    )


def manifest_version(bundle: Bundle) -> str:
    """Return the version of a bundle that no registry numbers: its manifest's first 12 digits."""
    return hashlib.sha256((bundle.root / MANIFEST).read_bytes()).hexdigest()[:12]


class Models:
    """Holds the model that answers, and lets another take its place. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Served | None = None
        self.loaded: weakref.WeakSet[Served] = weakref.WeakSet()  # put in place, still in memory
        self.reason = "the model is still loading"  # why there is none, while there is none

    @property
    def current(self) -> Served | None:
        """The model that answers, if one is loaded."""
        return self._current

    def take(self) -> Served:
        """Lease the current model; `give_back` ends it.

        Raises:
            ServiceError: none is loaded yet.
        """
        with self._lock:
            served = self._current
            if served is None:
                raise ServiceError("not_ready", f"Not ready: {self.reason}.", retry_after=5)
            served._leases += 1  # noqa: SLF001 - leases are counted here and nowhere else
        return served

    def give_back(self, served: Served) -> None:
        """End a lease."""
        with self._lock:
            served._leases -= 1  # noqa: SLF001
            self._release_if_unused(served)

    def swap(self, served: Served) -> Served | None:
        """Make `served` answer from now on; return the one before, still leased perhaps."""
        with self._lock:
            before, self._current = self._current, served
            self.loaded.add(served)
            if before is not None:
                before._replaced = True  # noqa: SLF001
                self._release_if_unused(before)
        return before

    @staticmethod
    def _release_if_unused(served: Served) -> None:
        if served._replaced and not served._leases:  # noqa: SLF001
            served.released.set()

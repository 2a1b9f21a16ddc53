"""One open bundle: what its parts compute for a batch, and which images of it fail.

Mirrors what the service does with the same bundle, item errors included.
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from handful_client import extras, images
from handful_client.batches import Batch
from handful_client.errors import (
    Conflict,
    ImageRejected,
    InputError,
    NoDecoder,
    NoHead,
    SpaceMismatch,
    Unprocessable,
)
from handful_client.images import Loaded, Pixels, Vector
from handful_client.wire import ItemError, Manifest, ModelInfo, ModelRef, Prediction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handful_bundle.bundle import Bundle
    from handful_bundle.decoder import Decoder

    Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Outcome:
    """What became of the images of a batch.

    Attributes:
        columns: arrays [n, …], one row per image that succeeded.
        places: which images of the batch those are.
        errors: why the others failed, numbered as the user's images are.
    """

    columns: "Sequence[Array]"
    places: list[int]
    errors: list[ItemError]


class LocalModel:
    """Computes with one bundle. Thread-safe."""

    def __init__(self, bundle: "Bundle") -> None:
        self._bundle = bundle
        self._np = extras.need("numpy", "local", "Handful.local")
        self._pixels = extras.need("handful_bundle.pixels", "local", "Handful.local")
        self._errors = extras.need("handful_bundle.errors", "local", "Handful.local")
        self._decoding = extras.need("handful_bundle.decoder", "local", "Handful.local")
        self._heads = extras.need("handful_bundle.head", "local", "Handful.local")
        self._predictions = extras.need("handful_bundle.predictions", "local", "Handful.local")
        self._manifest = Manifest.model_validate(bundle.manifest.model_dump(mode="json"))

    @functools.cached_property
    def info(self) -> ModelInfo:
        """Which model this is; its version is its manifest's digest, as the service has it."""
        manifest = self._manifest
        text = (self._bundle.root / "manifest.json").read_bytes()
        version = hashlib.sha256(text).hexdigest()[:12]
        routes = ["/embed"]
        if self._bundle.head is not None:
            routes.append("/classify")
        if self._bundle.decoder is not None:
            routes += ["/decode", "/reconstruct", "/sample"]
        return ModelInfo(
            model=ModelRef(name=manifest.name, version=version, space=manifest.space),
            provider=self._bundle.provider,
            labels=manifest.labels,
            routes=routes,
            manifest=manifest,
            settings=None,
        )

    def encode(self, batch: Batch, *, latent: bool) -> Outcome:
        """Return the embedding [n, E], or mean and log variance [n, D] of q(z|x)."""
        pixels, places, errors = self._read(batch)
        encoding = self._bundle.encoder(pixels)
        columns = (encoding.mean, encoding.log_variance) if latent else (encoding.embedding,)
        return self._finite(batch, columns, places, errors)

    def classify(self, batch: Batch) -> Outcome:
        """Return the probabilities [n, K] of images or of embeddings, and novelty [n] if told.

        Raises:
            NoHead: the bundle has none.
            SpaceMismatch: the embeddings are of another space.
        """
        head = self._bundle.head
        if head is None:
            raise NoHead(
                f"fit a head first: `handful-train head {self._manifest.name} IMAGES "
                "--labels LABELS.csv`"
            )
        sent = batch.sendable()
        if sent and isinstance(sent[0][1], Vector):
            found = self._vectors(batch, self._manifest.embedding_dim)
            if sent[0][1].space != self._manifest.space:
                raise SpaceMismatch(
                    f"the bundle embeds into {self._manifest.space}; embed the images again"
                )
        else:
            found = self.encode(batch, latent=False)
        columns = [column for column in head.judge(found.columns[0]) if column is not None]
        return self._finite(batch, columns, found.places, found.errors)

    def predictions(self, outcome: Outcome) -> list[Prediction]:
        """Return what is said of each row that `classify` returned, as the service says it."""
        manifest = self._bundle.manifest
        assert manifest.labels is not None
        assert manifest.head is not None
        judgement = self._heads.Judgement(*outcome.columns)
        found = self._predictions.predict(judgement, manifest.labels, manifest.head)
        return [Prediction(**prediction) for prediction in found]

    def decode(self, batch: Batch) -> Outcome:
        """Return images uint8 [n, H, W, C] of latents."""
        decoder = self._decoder()
        found = self._vectors(batch, self._manifest.latent_dim)
        decoding = decoder(found.columns[0])
        columns = (decoding.images, decoding.likelihood)
        return self._finite(batch, columns, found.places, found.errors)

    def reconstruct(self, batch: Batch) -> Outcome:
        """Return images uint8 [n, H, W, C], distortion [n] and rate [n] in nats."""
        decoder = self._decoder()
        pixels, places, errors = self._read(batch)
        encoding = self._bundle.encoder(pixels)
        decoding = decoder(encoding.mean)
        distortion = self._decoding.distortion(pixels, decoding.likelihood, decoder.likelihood)
        rate = self._decoding.rate(encoding.mean, encoding.log_variance)
        return self._finite(batch, (decoding.images, distortion, rate), places, errors)

    def sample(self, count: int, label: str | None, seed: int | None) -> Outcome:
        """Return images uint8 [count, H, W, C] drawn from N(0, I), or from one label's latents.

        Raises:
            Unprocessable: no such label.
            Conflict: a label is given, and the bundle knows nothing of its classes' latents.
        """
        decoder = self._decoder()
        if count < 1:
            raise InputError(f"count is {count}; give 1 or more")
        draws = self._np.random.default_rng(seed).standard_normal((count, decoder.latent_dim))
        if label is not None:
            classes, labels = self._bundle.classes, self._manifest.labels or []
            if classes is None:
                raise Conflict("the bundle has no classes.npz; fit a head", code="no_classes")
            if label not in labels:
                known = ", ".join(labels)
                raise Unprocessable(f"the labels are {known}", code="label_unknown")
            at = labels.index(label)
            draws = classes.mean[at] + self._np.sqrt(classes.variance[at]) * draws
        decoding = decoder(draws.astype(self._np.float32))
        columns = (decoding.images, decoding.likelihood)
        return self._finite(Batch(0), columns, list(range(count)), [])

    def pngs(self, pixels: "NDArray[np.uint8]") -> list[bytes]:
        """Return each image [n, H, W, C] as a PNG file."""
        return [self._pixels.encode_png(image) for image in pixels]

    def _decoder(self) -> "Decoder":
        if self._bundle.decoder is None:
            raise NoDecoder("the bundle has no decoder.onnx; export it again with one")
        decoder: Decoder = self._bundle.decoder
        return decoder

    def _read(self, batch: Batch) -> tuple["NDArray[np.uint8]", list[int], list[ItemError]]:
        shape = self._manifest.image.shape
        found, places, errors = [], [], batch.unreadable()
        for index, entry in batch.sendable():
            try:
                found.append(self._decode_file(entry))
                places.append(index - batch.start)
            except self._errors.ImageError as error:
                if batch.alone:
                    raise ImageRejected(f"{error} ({error.code})", code=error.code) from error
                errors.append(ItemError.of(index, error.code, str(error)))
        stack = self._np.stack(found) if found else self._np.empty((0, *shape), self._np.uint8)
        return stack, places, errors

    def _decode_file(self, entry: Loaded) -> "NDArray[np.uint8]":
        if isinstance(entry, Pixels):
            array = entry.array
            if array.shape == self._manifest.image.shape and array.dtype == "uint8":
                return array  # type: ignore[no-any-return]  # Pixels hold any array
        assert not isinstance(entry, Vector)
        file = images.pack(entry)  # what a service would get
        pixels: NDArray[np.uint8] = self._pixels.decode(file.data, self._bundle.manifest.image)
        return pixels

    def _vectors(self, batch: Batch, dim: int) -> Outcome:
        sent = [(index, entry) for index, entry in batch.sendable() if isinstance(entry, Vector)]
        if any(len(entry.numbers) != dim for _, entry in sent):
            raise Unprocessable(f"each row must have {dim} numbers", code="json_invalid")
        table = self._np.array([entry.numbers for _, entry in sent], self._np.float32)
        places = [index - batch.start for index, _ in sent]
        return Outcome((table.reshape(len(sent), dim),), places, batch.unreadable())

    def _finite(
        self, batch: Batch, columns: "Sequence[Array]", places: list[int], errors: list[ItemError]
    ) -> Outcome:
        """Return an outcome in which rows that are not finite have become errors."""
        good = self._np.ones(len(places), bool)
        for column in columns:
            good &= self._np.isfinite(column).all(axis=tuple(range(1, column.ndim)))
        detail = "the model's output for this item is not finite"
        failed = [
            ItemError.of(batch.start + place, "nonfinite_output", detail)
            for place, fine in zip(places, good.tolist(), strict=True)
            if not fine
        ]
        return Outcome(
            [column[good] for column in columns],
            [place for place, fine in zip(places, good.tolist(), strict=True) if fine],
            sorted([*errors, *failed], key=lambda error: error.index),
        )

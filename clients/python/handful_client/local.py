"""The methods of a client without a service: the same flows, computed in this process.

Needs the `handful` distribution (extra `local`). Files become pixels by the same code, and models
run through the same code, as in the service; so the answers are the same.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from handful_client import extras, rows
from handful_client.batches import Batch
from handful_client.errors import BundleUnusable
from handful_client.flow import Compute, Flow
from handful_client.local_model import LocalModel, Outcome
from handful_client.options import Options
from handful_client.results import Classified, EmbedResult, ImagesResult, ReconstructResult
from handful_client.spaces import check_space
from handful_client.wire import ItemError, ModelInfo, Prediction

if TYPE_CHECKING:
    from handful_client.local_model import Array

Result = TypeVar("Result")
Value = TypeVar("Value")


class Local:
    """A bundle that is open in this process, as the client's methods see it."""

    in_flight = 2  # one is read while one is computed

    def __init__(self, model: LocalModel) -> None:
        self._model = model

    @classmethod
    def open(
        cls, root: Path, *, device: str, threads: int | None, expect_space: str | None
    ) -> "Local":
        """Open and check a bundle.

        Raises:
            MissingExtra: the `handful` distribution is not installed.
            BundleUnusable: the folder is no sound bundle, or the device does not run here.
            SpaceMismatch: not the space that is expected.
        """
        bundles = extras.need("handful_bundle.bundle", "local", "Handful.local")
        errors = extras.need("handful_bundle.errors", "local", "Handful.local")
        try:
            bundle = bundles.Bundle.load(root, device=device, threads=threads)
        except errors.HandfulError as error:
            raise BundleUnusable(str(error)) from error
        check_space(bundle.manifest.space, expect_space)
        return cls(LocalModel(bundle))

    def with_options(self, options: Options) -> "Local":
        """Return the same bundle, if it is of the space that the options expect."""
        check_space(self._model.info.model.space, options.expect_space)
        return self

    def ready(self) -> Flow[bool]:
        """Return that it is: an open bundle has been checked."""
        return _computed(lambda: True)

    def model(self) -> Flow[ModelInfo]:
        """Return what is open."""
        return _computed(lambda: self._model.info)

    def embed(self, batch: Batch, *, latent: bool) -> Flow[EmbedResult]:
        """Embed one batch."""

        def compute() -> EmbedResult:
            outcome = self._model.encode(batch, latent=latent)
            dim = outcome.columns[0].shape[1]

            def table(column: "Array") -> rows.Rows:
                return rows.scatter(column, outcome.places, len(batch), dim)

            variance = table(outcome.columns[1]) if latent else None
            table_of_vectors = table(outcome.columns[0])
            return EmbedResult(table_of_vectors, outcome.errors, self._model.info.model, variance)

        return _computed(compute)

    def classify(self, batch: Batch) -> Flow[Classified]:
        """Classify one batch of images or of embeddings."""

        def compute() -> Classified:
            outcome = self._model.classify(batch)
            found = self._model.predictions(outcome)
            start = batch.start
            outcomes: dict[int, Prediction | ItemError] = {
                **{error.index: error for error in outcome.errors},
                **{start + at: one for at, one in zip(outcome.places, found, strict=True)},
            }
            return Classified([outcomes[key] for key in sorted(outcomes)], self._model.info.model)

        return _computed(compute)

    def decode(self, batch: Batch) -> Flow[ImagesResult]:
        """Decode one batch of latents."""
        return _computed(lambda: self._images(batch, self._model.decode(batch)))

    def reconstruct(self, batch: Batch) -> Flow[ReconstructResult]:
        """Encode and decode one batch."""

        def compute() -> ReconstructResult:
            outcome = self._model.reconstruct(batch)
            images = self._images(batch, outcome)
            distortion, rate = (column.tolist() for column in outcome.columns[1:])
            return ReconstructResult(
                images.png,
                images.errors,
                images.model,
                _spread(outcome, distortion, len(batch)),
                _spread(outcome, rate, len(batch)),
            )

        return _computed(compute)

    def sample(self, count: int, label: str | None, seed: int | None) -> Flow[ImagesResult]:
        """Draw images; the same seed draws the same latents as the service does."""

        def compute() -> ImagesResult:
            outcome = self._model.sample(count, label, seed)
            return self._images(Batch(0, [None] * count), outcome)

        return _computed(compute)

    def _images(self, batch: Batch, outcome: Outcome) -> ImagesResult:
        files = self._model.pngs(outcome.columns[0])
        png = _spread(outcome, files, len(batch.given))
        return ImagesResult(png, outcome.errors, self._model.info.model)


def _computed(function: Callable[[], Result]) -> Flow[Result]:
    result: Result = yield Compute(function)
    return result


def _spread(outcome: Outcome, values: list[Value], count: int) -> list[Value | None]:
    """Return one value per image of the batch, None for those that failed."""
    wide: list[Value | None] = [None] * count
    for place, value in zip(outcome.places, values, strict=True):
        wide[place] = value
    return wide

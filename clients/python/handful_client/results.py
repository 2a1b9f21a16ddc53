"""What the methods of a client return."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeAlias, Union

from handful_client import rows
from handful_client.errors import PartialFailure
from handful_client.wire import ItemError, ModelRef, Prediction

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[[int, int | None], None]  # images done, images in all where that is known


@dataclass(frozen=True, eq=False)
class EmbedResult:
    """Embeddings of many images.

    Attributes:
        embeddings: float32 [N, E], row i for image i; the row of a failed image is NaN. Without
            numpy: a list of N lists of floats, None for a failed image.
        errors: why images failed; empty when all is well.
        model: who answered. Compare embeddings only where `model.space` is equal.
        log_variance: with `space="latent"`, of q(z|x), as `embeddings`, which then holds the mean.
    """

    embeddings: "NDArray[np.float32]" = field(repr=False)
    errors: list[ItemError]
    model: ModelRef
    log_variance: "NDArray[np.float32] | None" = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def ok(self) -> list[bool]:
        """Per image, whether it has an embedding; selects rows: `embeddings[result.ok]`."""
        failed = {error.index for error in self.errors}
        return [index not in failed for index in range(len(self))]

    def raise_for_errors(self) -> Self:
        """Return itself when every image has an embedding.

        Raises:
            PartialFailure: some have none.
        """
        if self.errors:
            failed = {error.index: error for error in self.errors}
            results = [failed.get(index, row) for index, row in enumerate(self.embeddings)]
            raise partial_failure(results, self.errors)
        return self


# Union rather than `|`, which cannot take the name of a package that may not be installed.
Latents: TypeAlias = Union[EmbedResult, Sequence[Sequence[float]], "NDArray[Any]"]


@dataclass(frozen=True, eq=False)
class EmbedItem:
    """One image of a stream: its embedding, or its error.

    Attributes:
        index: its place among the images given.
        image: the image as it was given.
        embedding: float32 [E] (without numpy a list); None where it failed.
        error: why it failed; None where it did not.
        model: who answered.
        log_variance: with `space="latent"`, of q(z|x), as `embedding`, which then is the mean.
    """

    index: int
    image: Any = field(repr=False)
    embedding: "NDArray[np.float32] | None" = field(repr=False)
    error: ItemError | None
    model: ModelRef
    log_variance: "NDArray[np.float32] | None" = field(default=None, repr=False)


@dataclass(frozen=True)
class ClassifyItem:
    """One image of a stream: its prediction, or its error.

    Attributes:
        index: its place among the images given.
        image: the image as it was given.
        prediction: None where it failed.
        error: why it failed; None where it did not.
        model: who answered.
    """

    index: int
    image: Any = field(repr=False)
    prediction: Prediction | None
    error: ItemError | None
    model: ModelRef


@dataclass(frozen=True)
class ImagesResult:
    """Images that the decoder made.

    Attributes:
        png: one PNG file each; None where it failed.
        errors: why some failed; empty when all is well.
        model: who answered.
    """

    png: list[bytes | None] = field(repr=False)
    errors: list[ItemError]
    model: ModelRef

    def __len__(self) -> int:
        return len(self.png)

    def raise_for_errors(self) -> Self:
        """Return itself when every image could be made.

        Raises:
            PartialFailure: some could not.
        """
        if self.errors:
            failed = {error.index: error for error in self.errors}
            results = [failed.get(index, png) for index, png in enumerate(self.png)]
            raise partial_failure(results, self.errors)
        return self

    @property
    def pixels(self) -> "NDArray[np.uint8]":
        """The images as one array, uint8 [N, H, W, C].

        Raises:
            PartialFailure: some images could not be made.
            MissingExtra: numpy or Pillow is not installed.
        """
        files = [png for png in self.raise_for_errors().png if png is not None]
        array: NDArray[np.uint8] = rows.from_pngs(files)
        return array


@dataclass(frozen=True)
class ReconstructResult(ImagesResult):
    """Images after encoding and decoding, and the terms of the ELBO, one of each per image.

    Attributes:
        distortion: -log p(x|z) at the mean, in nats; None where the image failed.
        rate: KL(q(z|x) || p(z)), in nats; None where the image failed.
    """

    distortion: list[float | None]
    rate: list[float | None]


@dataclass(frozen=True)
class Classified:
    """Predictions of one batch, in order; an `ItemError` where an image failed."""

    results: list[Prediction | ItemError]
    model: ModelRef


def partial_failure(results: Sequence[Any], errors: Sequence[ItemError]) -> PartialFailure:
    """Return the error that says how many images failed, and holds what did not."""
    message = (
        f"{len(errors)} of {len(results)} images failed, first {errors[0]}; the others' results "
        "are in `.results` of this error"
    )
    return PartialFailure(message, results=results, errors=errors)


def join_embedded(parts: Sequence[EmbedResult]) -> EmbedResult:
    """Return the results of consecutive batches as one. Needs at least one batch."""
    if len(parts) == 1:
        return parts[0]
    variances = [part.log_variance for part in parts]
    return EmbedResult(
        embeddings=rows.join([part.embeddings for part in parts]),
        errors=[error for part in parts for error in part.errors],
        model=parts[0].model,
        log_variance=None if variances[0] is None else rows.join(variances),
    )


def join_classified(parts: Sequence[Classified]) -> Classified:
    """Return the results of consecutive batches as one. Needs at least one batch."""
    return Classified([result for part in parts for result in part.results], parts[-1].model)


def join_images(parts: Sequence[ImagesResult]) -> ImagesResult:
    """Return the results of consecutive batches as one. Needs at least one batch."""
    png = [image for part in parts for image in part.png]
    return ImagesResult(png, [error for part in parts for error in part.errors], parts[0].model)


def join_reconstructed(parts: Sequence[ReconstructResult]) -> ReconstructResult:
    """Return the results of consecutive batches as one. Needs at least one batch."""
    images = join_images(parts)
    return ReconstructResult(
        images.png,
        images.errors,
        images.model,
        [nats for part in parts for nats in part.distortion],
        [nats for part in parts for nats in part.rate],
    )

"""Embeddings as a step of a scikit-learn pipeline."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, Self

from handful_client import extras
from handful_client.client import Handful
from handful_client.errors import InputError
from handful_client.spaces import check_space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise extras.missing("scikit-learn", "sklearn", "HandfulEmbedder") from error


class HandfulEmbedder(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]  # scikit-learn has no types
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Turn images into embeddings, through a service or a bundle in this process.

        make_pipeline(HandfulEmbedder(), LogisticRegression()).fit(paths, labels)

    `fit` learns nothing from the images; it notes the embedding space, and `transform` refuses
    answers from any other: what comes after was fitted in that space. Parameters are plain
    values, so that the embedder can be cloned, pickled and searched over.

    Args:
        url: of a service; None: `HANDFUL_URL`, else http://127.0.0.1:8000.
        bundle: a bundle's folder instead of a service (extra `local`).
        space: "latent" for the mean of q(z|x) instead of the embedding.
        errors: for images that fail: "raise" raises `PartialFailure`, "nan" gives rows of NaN.

    Attributes:
        space_: the embedding space, after `fit`.
        n_features_out_: numbers in an embedding, after `fit`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        bundle: str | os.PathLike[str] | None = None,
        space: Literal["latent"] | None = None,
        errors: Literal["raise", "nan"] = "raise",
    ) -> None:
        self.url = url
        self.bundle = bundle
        self.space = space
        self.errors = errors

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002  # scikit-learn's signature
        """Note which embedding space the model has.

        Raises:
            InputError: both a service and a bundle are given, or `errors` is unknown.
            ConnectionFailed: nobody answers.
        """
        if self.url is not None and self.bundle is not None:
            raise InputError("give either url or bundle")
        if self.errors not in {"raise", "nan"}:
            raise InputError(f"errors is {self.errors!r}; give 'raise' or 'nan'")
        self.__dict__.pop("_opened", None)  # of other parameters, perhaps
        with self._client() as client:
            info = client.model()
        self.space_ = info.model.space
        latent = self.space == "latent"
        self.n_features_out_ = info.manifest.latent_dim if latent else info.manifest.embedding_dim
        self._n_features_out = self.n_features_out_  # what the mixin names the features by
        return self

    def transform(self, X: Any) -> "NDArray[np.float32]":
        """Return embeddings float32 [N, E] of images: paths, bytes, arrays … or one [N,H,W,C].

        Raises:
            SpaceMismatch: another encoder is in service than at `fit`.
            PartialFailure: images failed, and `errors` is "raise".
        """
        check_is_fitted(self)
        with self._client() as client:
            result = client.embed(X, space=self.space)
        check_space(result.model.space, self.space_)
        return (result.raise_for_errors() if self.errors == "raise" else result).embeddings

    def _client(self) -> AbstractContextManager[Handful]:
        if self.bundle is None:
            return Handful(self.url)
        # Opening a bundle takes a second, keeping it open holds no connection.
        opened: Handful | None = getattr(self, "_opened", None)
        if opened is None:
            self._opened = opened = Handful.local(self.bundle)
        return nullcontext(opened)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {key: value for key, value in state.items() if key != "_opened"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # one-dimensional lists of images, or [N,H,W,C]
        tags.input_tags.string = True
        return tags

"""Embed and classify images with Handful, through a service or in this process.

    from handful_client import Handful

    with Handful() as client:                       # HANDFUL_URL, else http://127.0.0.1:8000
        for prediction in client.classify(["cat.jpg", "dog.png"]):
            print(prediction.label, prediction.confidence)

`AsyncHandful` has the same methods, awaited; `Handful.local(bundle_dir)` the same without a
service; `HandfulEmbedder` is a scikit-learn transformer. Errors: `handful_client.errors`.
"""

from typing import TYPE_CHECKING, Any

from handful_client import errors
from handful_client.async_client import AsyncHandful
from handful_client.client import Handful
from handful_client.errors import HandfulError, PartialFailure
from handful_client.results import (
    ClassifyItem,
    EmbedItem,
    EmbedResult,
    ImagesResult,
    ReconstructResult,
)
from handful_client.version import __version__
from handful_client.wire import ItemError, ModelInfo, ModelRef, Prediction

if TYPE_CHECKING:
    from handful_client.embedder import HandfulEmbedder

__all__ = [
    "AsyncHandful",
    "ClassifyItem",
    "EmbedItem",
    "EmbedResult",
    "Handful",
    "HandfulEmbedder",
    "HandfulError",
    "ImagesResult",
    "ItemError",
    "ModelInfo",
    "ModelRef",
    "PartialFailure",
    "Prediction",
    "ReconstructResult",
    "__version__",
    "errors",
]


def __getattr__(name: str) -> Any:
    # scikit-learn takes a second to import, and is optional: only who asks for it pays.
    if name == "HandfulEmbedder":
        from handful_client.embedder import HandfulEmbedder  # noqa: PLC0415  # lazy, see above

        return HandfulEmbedder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

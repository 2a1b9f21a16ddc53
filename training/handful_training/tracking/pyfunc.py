"""The model that `mlflow models serve` runs: base64 images in, probabilities out.

MLflow copies this file into each version ("models from code", no pickle) and runs it by path,
beside a copy of `handful_bundle`. It may therefore import nothing else of Handful. Our own
service never runs it: it reads the bundle.
"""

import base64
import binascii
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from handful_bundle import pixels
from handful_bundle.bundle import Bundle
from handful_bundle.errors import ImageError

COLUMN = "image"
MAX_ROWS = 4096


class BundleModel(PythonModel):
    """Answers rows of a column `image`, the base64 text of JPEG, PNG or WebP files.

    Gives one column of probabilities per label; without a head one column `embedding` of lists.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Open the bundle that was logged with the model, checking all of it."""
        self.bundle = Bundle.load(Path(context.artifacts["bundle"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow's signature
        model_input: pd.DataFrame,
        params: dict[str, object] | None = None,  # noqa: ARG002 - MLflow's signature
    ) -> pd.DataFrame:
        """Return a row for each row.

        Raises:
            MlflowException: a row is not an image; the server answers 400 with the message.
        """
        if len(model_input) > MAX_ROWS:
            raise _refusal(f"{len(model_input)} rows; send at most {MAX_ROWS} at once")
        spec = self.bundle.manifest.image
        images = np.empty((len(model_input), *spec.shape), np.uint8)
        for row, text in enumerate(model_input[COLUMN]):
            try:
                images[row] = pixels.decode(base64.b64decode(text, validate=True), spec)
            except (ImageError, binascii.Error, TypeError) as error:
                raise _refusal(f"row {row}: {error}") from error
        embedding = self.bundle.encoder(images).embedding
        if self.bundle.head is None:
            return pd.DataFrame({"embedding": embedding.tolist()})
        return pd.DataFrame(self.bundle.head(embedding), columns=list(self.bundle.head.labels))


def _refusal(message: str) -> MlflowException:
    return MlflowException(message, error_code=BAD_REQUEST)


set_model(BundleModel())

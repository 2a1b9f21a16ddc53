"""A pyfunc for `mlflow models serve`: a list of files in base64.

Followed, on mlflow.org/docs: model/python_model (a model from code, `load_context`, type hints,
which spare requests the way through a data frame), deployment/deploy-model-locally (`--workers`:
one per core; `--env-manager local`), and uvicorn's settings page for its access log, which
`mlflow models serve` has no option for. It batches nothing.
"""

import base64
from typing import Any

import mlflow
from embedder import Embedder
from mlflow.pyfunc import PythonModel


class Model(PythonModel):  # type: ignore[misc]
    """Embeds the files of a request."""

    def load_context(self, context: Any) -> None:
        """Open the model."""
        del context
        self.embedder = Embedder()

    def predict(self, model_input: list[str]) -> list[list[float]]:
        """Return one embedding per file."""
        return self.embedder([base64.b64decode(text) for text in model_input])


mlflow.models.set_model(Model())

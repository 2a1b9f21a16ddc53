"""A pyfunc as `mlflow models serve` takes it: base64 in a column."""

import base64
from typing import Any

import mlflow
import pandas as pd
from embedder import Embedder
from mlflow.pyfunc import PythonModel


class Model(PythonModel):  # type: ignore[misc]
    """Embeds the rows of a request."""

    def load_context(self, context: Any) -> None:
        """Open the model."""
        del context
        self.embedder = Embedder()

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        """Return one embedding per row."""
        del context, params
        return self.embedder([base64.b64decode(text) for text in model_input["image"]])


mlflow.models.set_model(Model())

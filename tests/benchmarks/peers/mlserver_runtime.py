"""MLServer as its guides have it: Open Inference Protocol, a custom runtime, adaptive batches.

Followed, all below docs.seldon.ai/mlserver: user-guide/custom (a runtime with `load` and
`predict`), user-guide/content-type (files in base64), user-guide/adaptive-batching
(`max_batch_size` and `max_batch_time` in model-settings.json), user-guide/parallel-inference (a
pool of as many workers as cores; none on one core, where it would only carry messages) and the
reference of settings (`debug` off, and with it the access log; metrics stay on, as ours do).
`serving_peers` writes both settings files.
"""

from embedder import Embedder
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from numpy import array, float32


class Runtime(MLModel):
    """Embeds batches."""

    async def load(self) -> bool:
        """Open the model."""
        self.embedder = Embedder()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Embed a batch."""
        files = Base64Codec.decode_input(payload.inputs[0])
        rows = array(self.embedder(files), float32)
        output = NumpyCodec.encode_output("embeddings", rows)
        return InferenceResponse(model_name=self.name, outputs=[output])

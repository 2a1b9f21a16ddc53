"""MLServer as its guide on custom runtimes has it: Open Inference Protocol, adaptive batches."""

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

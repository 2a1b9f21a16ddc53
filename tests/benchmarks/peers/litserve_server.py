"""LitServe as its guide on images and on batching has it: base64 in JSON, batches of 32."""

import base64
import os
from typing import Any

import litserve
from embedder import Embedder


class Api(litserve.LitAPI):
    """Decodes, batches and embeds."""

    def setup(self, device: str) -> None:
        """Open the model."""
        del device
        self.embedder = Embedder()

    def decode_request(self, request: dict[str, Any]) -> bytes:
        """Return the file in a request."""
        return base64.b64decode(request["image"])

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """Keep the files apart until they are pixels."""
        return inputs

    def predict(self, x: list[bytes]) -> list[list[float]]:
        """Embed a batch."""
        return self.embedder(x)

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        """Return one row per request."""
        return output

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        """Return what is answered."""
        return {"embeddings": [output]}


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(max_batch_size=32, batch_timeout=0.001), accelerator="cpu", workers_per_device=1
    )
    server.run(
        host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), num_api_servers=1,
        generate_client_file=False, log_level="warning",
    )  # fmt: skip

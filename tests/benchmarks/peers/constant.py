"""HTTP alone: uvicorn, reading each body and answering the same as long as an embedding in JSON."""

import os
from typing import Any

import uvicorn

BODY = b'{"embeddings":[[' + b"0.12345678," * 63 + b"0.12345678]]}"
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer one request."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    port = int(os.environ["BENCH_PORT"])
    uvicorn.run(app, port=port, log_level="warning", access_log=False, lifespan="off")

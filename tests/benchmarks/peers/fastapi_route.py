"""FastAPI routes as its tutorial has them: a raw body or form files in, JSON out.

Followed, all on fastapi.tiangolo.com: async (work that blocks goes to the thread pool),
tutorial/request-files (`list[UploadFile]`), tutorial/response-model (a pydantic model makes the
answer fast) and deployment/server-workers (a worker per core). No access log. It batches nothing.
"""

import os

import uvicorn
from embedder import Embedder
from fastapi import FastAPI, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

app = FastAPI()
embedder = Embedder()


class Answer(BaseModel):
    """What comes back."""

    embeddings: list[list[float]]


@app.post("/embed")
async def embed(request: Request) -> Answer:
    """Embed one image."""
    body = await request.body()
    return Answer(embeddings=await run_in_threadpool(embedder, [body]))


@app.post("/embed-many")
async def embed_many(images: list[UploadFile]) -> Answer:
    """Embed the images of a form."""
    files = [await image.read() for image in images]
    return Answer(embeddings=await run_in_threadpool(embedder, files))


if __name__ == "__main__":
    uvicorn.run(
        "fastapi_route:app", port=int(os.environ["BENCH_PORT"]),
        workers=int(os.environ["BENCH_WORKERS"]), log_level="warning", access_log=False,
    )  # fmt: skip

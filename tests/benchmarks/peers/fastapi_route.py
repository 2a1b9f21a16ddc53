"""A FastAPI route as its tutorial has it: a raw body in, the work in a thread, JSON out."""

import os

import uvicorn
from embedder import Embedder
from fastapi import FastAPI, Request
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


if __name__ == "__main__":
    port = int(os.environ["BENCH_PORT"])
    uvicorn.run(app, port=port, log_level="warning", access_log=False)

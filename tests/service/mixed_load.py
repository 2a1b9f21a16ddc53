"""Sends requests of all forms over many connections and checks each row of each answer.

Every picture has an embedding of its own, computed offline with the bundle that is served, so a
row that went to another request, or moved within its own, is seen.

    python tests/service/mixed_load.py URL BUNDLE --answers 10000 --connections 64
"""

import argparse
import asyncio
import base64
import io
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handful_bundle import pixels
from handful_bundle.bundle import Bundle

TOLERANCE = 1e-5  # relative to the largest number of an embedding
MOST = 8  # images in a request
FORMS = ("raw", "multipart", "json", "npy")
TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


@dataclass(frozen=True)
class Pictures:
    """What is sent, and what must come back."""

    files: list[tuple[bytes, str]]  # data, media type
    pixels: NDArray[np.uint8]  # [n, H, W, C]
    embeddings: NDArray[np.float32]  # [n, E]


@dataclass
class Report:
    """What came back."""

    answers: int = 0
    rows: int = 0
    wrong: int = 0  # rows whose embedding is not the offline one
    swapped: int = 0  # of these, rows that have another picture's embedding
    failed: int = 0  # requests without an answer of status 200
    seconds: float = 0.0
    forms: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)  # X-Model-Version → answers


def draw_pictures(root: Path, count: int = 150, seed: int = 0) -> Pictures:
    """Draw pictures of many sizes and embed them offline with the bundle in `root`."""
    bundle = Bundle.load(root, device="cpu", threads=1)
    rng = np.random.default_rng(seed)
    files = []
    for index in range(count):
        kind = list(TYPES)[index % 3]
        height, width = (int(side) for side in rng.integers(8, 70, 2))
        coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((width, height)).save(buffer, kind)
        files.append((buffer.getvalue(), TYPES[kind]))
    decoded = np.stack([pixels.decode(data, bundle.manifest.image) for data, _ in files])
    # One at a time: what an answer must be may not depend on the batch that it came in.
    embeddings = np.concatenate([bundle.encoder(row[np.newaxis]).embedding for row in decoded])
    apart = np.abs(embeddings[:, np.newaxis] - embeddings).max(axis=2)
    np.fill_diagonal(apart, np.inf)
    assert apart.min() > 100 * TOLERANCE * np.abs(embeddings).max(), "two pictures look the same"
    return Pictures(files, decoded, embeddings)


async def drive(
    url: str, pictures: Pictures, *, answers: int, connections: int = 64, seed: int = 0
) -> Report:
    """Send `answers` requests over `connections` connections and check every row."""
    report = Report()
    rng = np.random.default_rng(seed)
    address = urlsplit(url)
    tickets = iter(range(answers))
    started = time.perf_counter()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            for _ in tickets:
                await _one(reader, writer, pictures, rng, report)
        finally:
            writer.close()
            await writer.wait_closed()

    await asyncio.gather(*(connection() for _ in range(connections)))
    report.seconds = time.perf_counter() - started
    return report


async def _one(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    pictures: Pictures,
    rng: np.random.Generator,
    report: Report,
) -> None:
    form = FORMS[rng.integers(len(FORMS))]
    count = 1 if form == "raw" else int(rng.integers(1, MOST + 1))
    chosen = rng.integers(0, len(pictures.files), count)
    as_npy = bool(rng.integers(2))
    kind, body = _body(form, pictures, chosen)
    accept = "application/x-npy" if as_npy else "application/json"
    # By hand: httpx costs more than the server, and would be what is measured.
    writer.write(
        f"POST /embed HTTP/1.1\r\nHost: test\r\nContent-Type: {kind}\r\nAccept: {accept}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
    )
    writer.write(body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *lines = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    content = await reader.readexactly(int(headers["content-length"]))
    if status.split()[1] != "200":
        report.failed += 1
        return
    report.answers += 1
    report.rows += count
    report.forms[form] = report.forms.get(form, 0) + 1
    version = headers["x-model-version"]
    report.versions[version] = report.versions.get(version, 0) + 1
    found = (
        np.load(io.BytesIO(content), allow_pickle=False)
        if as_npy
        else np.array(json.loads(content)["embeddings"], np.float32)
    )
    _compare(found, pictures, chosen, report)


def _compare(
    found: NDArray[np.float32], pictures: Pictures, chosen: NDArray[np.intp], report: Report
) -> None:
    if found.shape != (len(chosen), pictures.embeddings.shape[1]):
        report.wrong += len(chosen)
        return
    scale = np.abs(pictures.embeddings).max(axis=1)
    for row, index in zip(found, chosen, strict=True):
        if np.abs(pictures.embeddings[index] - row).max() <= TOLERANCE * scale[index]:
            continue
        report.wrong += 1
        others = np.abs(pictures.embeddings - row).max(axis=1)
        report.swapped += bool((others <= TOLERANCE * scale).any())


def _body(form: str, pictures: Pictures, chosen: NDArray[np.intp]) -> tuple[str, bytes]:
    """Return Content-Type and body of a request for the `chosen` pictures."""
    files = [pictures.files[index] for index in chosen]
    if form == "raw":
        return files[0][1], files[0][0]
    if form == "multipart":
        parts = [
            b'--cut\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n'
            b"Content-Type: " + kind.encode() + b"\r\n\r\n" + data + b"\r\n"
            for data, kind in files
        ]
        return "multipart/form-data; boundary=cut", b"".join([*parts, b"--cut--\r\n"])
    if form == "json":
        images = [base64.b64encode(data).decode() for data, _ in files]
        return "application/json", json.dumps({"images": images}).encode()
    buffer = io.BytesIO()
    np.save(buffer, pictures.pixels[chosen])
    return "application/x-npy", buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    pictures = draw_pictures(options.bundle)
    report = asyncio.run(
        drive(options.url, pictures, answers=options.answers, connections=options.connections)
    )
    print(json.dumps(asdict(report)))


if __name__ == "__main__":
    main()

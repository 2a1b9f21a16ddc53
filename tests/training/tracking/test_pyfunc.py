"""`mlflow models serve` on a version answers as the bundle does."""

import base64
import io
import json
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from handful_bundle import pixels
from handful_bundle.bundle import Bundle
from handful_training.tracking import Version


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """A JPEG, a PNG and a WebP of different sizes."""
    rng = np.random.default_rng(7)
    files = []
    for kind, shape in (("JPEG", (40, 30, 3)), ("PNG", (16, 16, 3)), ("WEBP", (9, 55, 3))):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(buffer, kind)
        files.append(buffer.getvalue())
    return files


def ask(url: str, body: dict) -> tuple[int, dict]:
    request = urllib.request.Request(
        f"{url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_mlflow_serves_the_same_probabilities(tracker, register, serve, photos, bundle_dir):
    """Over /invocations: the bundle's own probabilities by label, and 400 for what is no image."""
    number = register(tracker)
    bundle = Bundle.load(bundle_dir)
    spec = bundle.manifest.image
    encoding = bundle.encoder(np.stack([pixels.decode(photo, spec) for photo in photos]))
    expected = bundle.head(encoding.embedding)
    texts = [base64.b64encode(photo).decode() for photo in photos]
    with serve(
        "models", "serve", "--env-manager", "local", "--workers", "1",
        "--model-uri", Version("animals", number).uri,
        env={"MLFLOW_TRACKING_URI": tracker.uri},
    ) as url:  # fmt: skip
        for body in (
            {"dataframe_records": [{"image": text} for text in texts]},
            {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
            {"inputs": {"image": texts}},
        ):
            status, reply = ask(url, body)
            assert status == 200, reply
            answers = [[row[label] for label in bundle.head.labels] for row in reply["predictions"]]
            assert np.abs(np.array(answers) - expected).max() < 1e-5
        for bad in ("no base64!", base64.b64encode(photos[0][:200]).decode(), ""):
            rows = [{"image": texts[0]}, {"image": bad}]
            status, reply = ask(url, {"dataframe_records": rows})
            assert status == 400
            assert "row 1" in reply["message"]


def test_without_a_head_it_gives_the_embedding(tracker, register, bundle_dir_grey, photos):
    """An encoder alone answers with its embeddings, one list a row."""
    import mlflow
    import pandas as pd

    number = register(tracker, bundle=bundle_dir_grey)
    model = mlflow.pyfunc.load_model(Version("animals", number).uri)
    texts = [base64.b64encode(photo).decode() for photo in photos]
    answer = model.predict(pd.DataFrame({"image": texts}))
    bundle = Bundle.load(bundle_dir_grey)
    images = np.stack([pixels.decode(photo, bundle.manifest.image) for photo in photos])
    expected = bundle.encoder(images).embedding
    assert np.abs(np.array(answer["embedding"].tolist()) - expected).max() < 1e-5

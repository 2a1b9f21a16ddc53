"""Prediction sets, novelty and abstention, through the real service on a socket."""

import io
from pathlib import Path

import numpy as np
import pytest

from handful_bundle.bundle import Bundle
from handful_bundle.predictions import predict
from handful_service.schemas import Prediction

NPY = {"Content-Type": "application/x-npy"}


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def careful_server(serve_session, careful_bundle_dir: Path):
    return serve_session(careful_bundle_dir).wait_ready()


@pytest.fixture(scope="module")
def bundle(careful_bundle_dir: Path) -> Bundle:
    return Bundle.load(careful_bundle_dir, device="cpu", threads=1)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """From black, which is familiar, to bright noise, which is novel."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3))
    return (noise * np.linspace(0, 1, 24)[:, None, None, None]).astype(np.uint8)


def close(found: dict, wanted: dict) -> None:
    numbers = {"confidence", "novelty", "probabilities", "reason"}
    assert {k: v for k, v in found.items() if k not in numbers} == {
        k: v for k, v in wanted.items() if k not in numbers
    }
    assert found["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-5)
    assert found["novelty"] == pytest.approx(wanted["novelty"], abs=1e-5)
    assert (found["reason"] is None) == (wanted["reason"] is None)


def test_answers_are_those_of_the_bundle(careful_server, bundle, images) -> None:
    """Images and their embeddings alike get the label, set, novelty and abstention that the
    bundle's own code gives, and they differ with the image.
    """
    embeddings = bundle.encoder(images).embedding
    wanted = predict(bundle.head.judge(embeddings), bundle.manifest.labels, bundle.manifest.head)
    by_image = careful_server.client.post("/classify", content=npy(images), headers=NPY).json()
    body = {"embeddings": embeddings.tolist(), "space": bundle.manifest.space}
    by_embedding = careful_server.client.post("/classify", json=body).json()
    for answer in (by_image, by_embedding):
        for found, want in zip(answer["predictions"], wanted, strict=True):
            close(found, want)
            Prediction.model_validate(found, strict=True)
    assert {one["abstained"] for one in wanted} == {True, False}
    assert len({len(one["prediction_set"]) for one in wanted}) > 1


def test_a_far_image_abstains_and_is_counted(careful_server) -> None:
    """A novel image is answered with a reason that names novelty and threshold, and counted; a
    familiar one beside it is not.
    """
    black, white = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    before = careful_server.metric("handful_abstained_total")
    body = npy(np.stack([black, white]))
    answer = careful_server.client.post("/classify", content=body, headers=NPY).json()
    familiar, novel = answer["predictions"]
    assert not familiar["abstained"]
    assert familiar["reason"] is None
    assert novel["abstained"]
    assert novel["novelty"] > 0.4 > familiar["novelty"]
    assert f"novelty {novel['novelty']:.4g} is above the threshold 0.4" in novel["reason"]
    assert novel["label"] in novel["probabilities"]  # abstaining hides nothing
    assert careful_server.metric("handful_abstained_total") == before + 1


def test_the_threshold_is_in_the_manifest(careful_server) -> None:
    """/model says from which novelty on the service abstains, and how sets are made."""
    head = careful_server.client.get("/model").json()["manifest"]["head"]
    assert head["novelty"]["threshold"] == 0.4
    assert head["conformal"]["threshold"] == 0.8


@pytest.mark.parametrize("threshold", [0.0, None])
def test_sets_follow_the_manifest(serve, make_bundle, tmp_path, images, threshold) -> None:
    """At threshold 0 a set is the label alone; without a threshold it is every class."""
    root = make_bundle(
        tmp_path / "bundle",
        conformal={"method": "m", "level": 0.9, "threshold": threshold, "count": 3},
    )
    server = serve(root).wait_ready()
    answer = server.client.post("/classify", content=npy(images), headers=NPY).json()
    for one in answer["predictions"]:
        expected = [one["label"]] if threshold == 0 else list(one["probabilities"])
        assert sorted(one["prediction_set"]) == sorted(expected)
        assert one["novelty"] is None
        assert not one["abstained"]


def test_novelty_that_is_not_finite_fails_its_item_only(careful_server, bundle) -> None:
    """An embedding whose novelty overflows is `nonfinite_output`; the one beside it is answered."""
    rows = np.zeros((2, 8), np.float32)
    rows[0] = 5e37  # their sum overflows, each alone does not
    judgement = bundle.head.judge(rows)
    assert np.isfinite(judgement.probabilities).all()
    assert np.isfinite(judgement.novelty).tolist() == [False, True]
    body = {"embeddings": rows.tolist(), "space": bundle.manifest.space}
    answer = careful_server.client.post("/classify", json=body).json()
    assert [one is None for one in answer["predictions"]] == [True, False]
    assert [(e["index"], e["code"]) for e in answer["errors"]] == [(0, "nonfinite_output")]

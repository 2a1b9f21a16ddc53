"""All input and output forms of the inference routes, against the same bundle run offline."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from handful_bundle import pixels
from handful_bundle.bundle import Bundle
from handful_bundle.decoder import distortion, rate

NPY = "application/x-npy"
Picture = Callable[..., bytes]


@pytest.fixture(scope="module")
def bundle(bundle_dir: Path) -> Bundle:
    return Bundle.load(bundle_dir, device="cpu", threads=1)


@pytest.fixture(scope="module")
def files(picture: Picture) -> list[bytes]:
    return [picture(i, kind) for i, kind in enumerate(["JPEG", "PNG", "WEBP"])]


@pytest.fixture(scope="module")
def rows(files: list[bytes], bundle: Bundle) -> NDArray[np.uint8]:
    return np.stack([pixels.decode(file, bundle.manifest.image) for file in files])


def npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def in_base64(files: list[bytes]) -> list[str]:
    return [base64.b64encode(file).decode() for file in files]


def multipart(files: list[bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("images", ("any name", file, "application/octet-stream")) for file in files]


@pytest.mark.parametrize("route", ["/embed", "/classify"])
def test_all_forms_give_the_same(server, files, rows, route) -> None:
    """Multipart, JSON and npy bodies, and each image as a raw body, give the same answer."""
    post = server.client.post
    answers = [
        post(route, files=multipart(files)),
        post(route, json={"images": in_base64(files)}),
        post(route, content=npy(rows), headers={"Content-Type": NPY}),
        post(route, content=npy(np.asfortranarray(rows)), headers={"Content-Type": NPY}),
    ]
    key = "embeddings" if route == "/embed" else "predictions"
    assert [answer.status_code for answer in answers] == [200] * 4
    first = answers[0].json()
    assert all(answer.json() == first for answer in answers)
    for index, (file, kind) in enumerate(
        zip(files, ["image/jpg", "image/png", "image/webp"], strict=True)
    ):
        single = post(route, content=file, headers={"Content-Type": kind}).json()
        one = post(route, content=npy(rows[index]), headers={"Content-Type": NPY}).json()
        assert single == one == {**first, key: [first[key][index]]}


def test_embeddings_are_those_of_the_bundle(server, files, rows, bundle) -> None:
    """/embed gives the encoder's embeddings; space=latent the posterior mean and log variance."""
    encoding = bundle.encoder(rows)
    answer = server.client.post("/embed", json={"images": in_base64(files)}).json()
    np.testing.assert_allclose(answer["embeddings"], encoding.embedding, rtol=1e-5, atol=1e-6)
    assert answer["dim"] == 8
    assert answer["errors"] == []
    assert "log_variance" not in answer
    latent = server.client.post("/embed?space=latent", json={"images": in_base64(files)}).json()
    np.testing.assert_allclose(latent["embeddings"], encoding.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(latent["log_variance"], encoding.log_variance, rtol=1e-5, atol=1e-6)
    assert latent["dim"] == 4
    assert latent["model"] == answer["model"]


@pytest.mark.parametrize(("query", "field"), [("", "embedding"), ("?space=latent", "mean")])
def test_npy_answers(server, files, rows, bundle, query, field) -> None:
    """`Accept: application/x-npy` gives float32 [N, E], exactly what JSON says."""
    answer = server.client.post(
        f"/embed{query}", files=multipart(files), headers={"Accept": f"{NPY}, */*;q=0.1"}
    )
    assert answer.headers["content-type"] == NPY
    found = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, getattr(bundle.encoder(rows), field), rtol=1e-5, atol=1e-6)
    refused = server.client.post(
        "/embed", files=multipart(files), headers={"Accept": f"{NPY};q=0, application/json"}
    )
    assert refused.headers["content-type"] == "application/json"


def test_predictions_are_those_of_the_bundle(server, files, rows, bundle) -> None:
    """/classify gives the head's probabilities, from images and from their embeddings alike."""
    embeddings = bundle.encoder(rows).embedding
    probabilities = bundle.head(embeddings)
    by_image = server.client.post("/classify", json={"images": in_base64(files)}).json()
    kept = server.client.post("/embed", json={"images": in_base64(files)}).json()
    by_embedding = server.client.post(
        "/classify", json={"embeddings": kept["embeddings"], "space": kept["model"]["space"]}
    ).json()
    for answer in (by_image, by_embedding):
        assert answer["model"] == kept["model"]
        for prediction, row in zip(answer["predictions"], probabilities, strict=True):
            best = int(row.argmax())
            assert prediction["label"] == bundle.manifest.labels[best]
            assert prediction["confidence"] == pytest.approx(row[best], abs=1e-5)
            assert list(prediction["probabilities"]) == list(bundle.manifest.labels)
            np.testing.assert_allclose(list(prediction["probabilities"].values()), row, atol=1e-5)
            assert prediction["prediction_set"] is prediction["novelty"] is None
            assert prediction["abstained"] is False
            assert prediction["reason"] is None


def test_decoding_in_all_forms(server, bundle) -> None:
    """/decode gives a PNG for one latent, npy where asked for, else base64 PNGs, all the same
    pixels.
    """
    latents = np.random.default_rng(3).normal(0, 1, (3, 4)).astype(np.float32)
    wanted = bundle.decoder(latents).images
    post = server.client.post
    body = {"latents": latents.tolist()}
    as_npy = post("/decode", json=body, headers={"Accept": NPY})
    from_npy = post("/decode", content=npy(latents), headers={"Content-Type": NPY, "Accept": NPY})
    assert as_npy.headers["content-type"] == NPY
    assert as_npy.content == from_npy.content
    np.testing.assert_array_equal(np.load(io.BytesIO(as_npy.content)), wanted)
    listed = post("/decode", json=body).json()
    pngs = [base64.b64decode(image) for image in listed["images"]]
    np.testing.assert_array_equal([np.asarray(Image.open(io.BytesIO(png))) for png in pngs], wanted)
    one = post("/decode", json={"latents": latents[:1].tolist()})
    assert one.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(one.content))), wanted[0])
    one_listed = post(
        "/decode", json={"latents": latents[:1].tolist()}, headers={"Accept": "application/json"}
    )
    assert one_listed.json()["images"] == listed["images"][:1]


def test_reconstructions_and_their_terms(server, files, rows, bundle) -> None:
    """/reconstruct decodes the posterior mean and lists distortion and rate in nats per item."""
    encoding = bundle.encoder(rows)
    decoding = bundle.decoder(encoding.mean)
    answer = server.client.post("/reconstruct", json={"images": [*in_base64(files), "AAAA"]}).json()
    assert [error["index"] for error in answer["errors"]] == [3]
    assert answer["images"][3] is answer["distortion"][3] is answer["rate"][3] is None
    np.testing.assert_allclose(
        answer["distortion"][:3], distortion(rows, decoding.likelihood, "bernoulli"), rtol=1e-4
    )
    np.testing.assert_allclose(
        answer["rate"][:3], rate(encoding.mean, encoding.log_variance), rtol=1e-4
    )
    npy_answer = server.client.post(
        "/reconstruct", content=npy(rows), headers={"Content-Type": NPY, "Accept": NPY}
    )
    np.testing.assert_array_equal(np.load(io.BytesIO(npy_answer.content)), decoding.images)


def test_samples(server, bundle) -> None:
    """/sample draws as many images as asked for; a seed repeats them; a label moves them to its
    class.
    """

    def draw(**body: Any) -> NDArray[np.uint8]:
        answer = server.client.post("/sample", json=body, headers={"Accept": NPY})
        assert answer.status_code == 200, answer.text
        return np.load(io.BytesIO(answer.content))

    assert draw(count=5).shape == (5, 16, 16, 3)
    np.testing.assert_array_equal(draw(count=5, seed=1), draw(count=5, seed=1))
    assert (draw(count=5, seed=1) != draw(count=5, seed=2)).any()
    assert (draw(count=5) != draw(count=5)).any()
    noise = np.random.default_rng(1).standard_normal((200, 4))
    owl = bundle.manifest.labels.index("owl")
    latents = bundle.classes.mean[owl] + np.sqrt(bundle.classes.variance[owl]) * noise
    wanted = bundle.decoder(latents.astype(np.float32)).images
    np.testing.assert_array_equal(draw(count=200, seed=1, label="owl"), wanted)


def test_large_batches_keep_their_order(server, picture, bundle) -> None:
    """A request of many windows, some of its items bad, answers each item in its place."""
    files = [picture(i, "PNG", 20, 20) if i % 7 else b"no image" for i in range(300)]
    answer = server.client.post("/embed", files=multipart(files)).json()
    bad = [i for i in range(300) if i % 7 == 0]
    assert [error["index"] for error in answer["errors"]] == bad
    assert [i for i, row in enumerate(answer["embeddings"]) if row is None] == bad
    good = [i for i in range(300) if i % 7]
    rows = np.stack([pixels.decode(files[i], bundle.manifest.image) for i in good])
    np.testing.assert_allclose(
        [answer["embeddings"][i] for i in good],
        bundle.encoder(rows).embedding,
        rtol=1e-5,
        atol=1e-6,
    )

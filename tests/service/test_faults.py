"""Faults and bad input: each gets its own status and code, and harms nobody else."""

import base64
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from handful_bundle.bundle import Bundle
from handful_bundle.encoder import Encoder
from handful_bundle.golden import make_golden
from handful_bundle.manifest import digest, space_digest

JSON = {"Content-Type": "application/json"}
NPY = {"Content-Type": "application/x-npy"}
PROBLEM = {"type", "title", "status", "detail", "code", "request_id", "retryable"}
MARK = "sEcReT-mArK"  # sent, and never to be seen again


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and has nothing to show for it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        )

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    head = chunk(b"IHDR", size + b"\x08\x00\x00\x00\x00")
    return (
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


def animated() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green")]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def npy(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def bad_images(picture: Callable[..., bytes]) -> dict[str, tuple[bytes, str, int]]:
    """Bytes of an image that cannot be used → its code and the status of a raw request."""
    return {
        "empty": (b"", "image_empty", 400),
        "text": (b"<svg>" + MARK.encode(), "image_unsupported", 415),
        "gif": (b"GIF89a" + bytes(50), "image_unsupported", 415),
        "truncated": (picture(kind="PNG")[:600], "image_unreadable", 422),
        "bomb": (png_header(9000, 9000), "image_too_large", 413),
        "animated": (animated(), "image_animated", 422),
        "nothing": (png_header(0, 10), "image_unreadable", 422),
    }


FAULTS = ["empty", "text", "gif", "truncated", "bomb", "animated", "nothing"]


def check_problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """`answer` is a problem document as the contract has it, and tells nobody's secrets."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert PROBLEM <= found.keys() <= PROBLEM | {"errors"}
    assert found["code"] == code
    assert found["status"] == status
    assert found["type"].endswith(code)
    assert found["request_id"] == answer.headers["X-Request-ID"]
    assert found["retryable"] is (status in {408, 503, 504})
    for name in ("X-Model-Version", "X-Embedding-Space", "Server-Timing"):
        assert answer.headers[name]
    for telltale in (MARK, "Traceback", "site-packages", ".py"):
        assert telltale not in answer.text
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_raw_image(server, picture, fault) -> None:
    """One raw image that cannot be used is a problem document of the status of its cause."""
    data, code, status = bad_images(picture)[fault]
    media_type = "image/webp" if fault == "animated" else "image/png"
    check_problem(
        server.client.post("/embed", content=data, headers={"Content-Type": media_type}),
        status,
        code,
    )


def test_bad_images_in_a_batch(server, picture) -> None:
    """Each bad item of a batch is null with its own error, and the good ones are as without it."""
    good = picture()
    bad = bad_images(picture)
    parts = [good, *(data for data, _, _ in bad.values()), good]
    answer = server.client.post(
        "/classify", files=[("images", ("x", p, "application/octet-stream")) for p in parts]
    )
    assert answer.status_code == 200
    found = answer.json()
    alone = server.client.post("/classify", content=good, headers={"Content-Type": "image/jpeg"})
    assert found["predictions"] == [
        alone.json()["predictions"][0], *[None] * len(bad), alone.json()["predictions"][0]
    ]  # fmt: skip
    assert [e["index"] for e in found["errors"]] == list(range(1, len(bad) + 1))
    assert [e["code"] for e in found["errors"]] == [code for _, code, _ in bad.values()]
    assert all(e.keys() == {"index", "type", "code", "detail"} for e in found["errors"])
    assert MARK not in answer.text


def test_declared_type_is_checked(server, picture) -> None:
    """Bytes that are not of the declared media type are refused, raw and in a part."""
    jpeg = picture()
    check_problem(
        server.client.post("/embed", content=jpeg, headers={"Content-Type": "image/png"}),
        415,
        "image_mismatched",
    )
    parts = server.client.post("/embed", files=[("images", ("x", jpeg, "image/webp"))]).json()
    assert parts["errors"][0]["code"] == "image_mismatched"


def test_npy_answer_has_no_place_for_errors(server, picture) -> None:
    """With an npy answer one bad item fails the request with 422, and the problem names it."""
    found = check_problem(
        server.client.post(
            "/embed",
            files=[("images", ("x", data)) for data in (picture(kind="PNG"), b"no")],
            headers={"Accept": "application/x-npy"},
        ),
        422,
        "items_failed",
    )
    assert [(e["index"], e["code"]) for e in found["errors"]] == [(1, "image_unsupported")]


DEEP = b'{"images":' + b"[" * 50_000
MALFORMED = [
    ("/embed", JSON, b"", 422, "json_invalid"),
    ("/embed", JSON, b"{" + MARK.encode(), 422, "json_invalid"),
    ("/embed", JSON, DEEP, 422, "json_invalid"),
    ("/embed", JSON, b'{"images": "abc"}', 422, "json_invalid"),
    ("/embed", JSON, b'{"images": [1]}', 422, "json_invalid"),
    ("/embed", JSON, b'{"images": []}', 422, "no_images"),
    ("/embed", JSON, json.dumps({"images": ["a"], MARK: 1}).encode(), 422, "json_invalid"),
    ("/embed", JSON, json.dumps({"images": [""] * 5000}).encode(), 422, "too_many_items"),
    ("/embed?space=other", JSON, b'{"images": ["a"]}', 422, "parameter_invalid"),
    ("/embed", NPY, b"no npy", 422, "npy_invalid"),
    ("/embed", NPY, npy(np.zeros((2, 16, 16, 3), np.float32)), 422, "npy_invalid"),
    ("/embed", NPY, npy(np.zeros((2, 15, 16, 3), np.uint8)), 422, "npy_invalid"),
    ("/embed", NPY, npy(np.zeros((0, 16, 16, 3), np.uint8)), 422, "no_images"),
    ("/embed", NPY, npy(np.zeros((2, 16, 16, 3), np.uint8))[:-1], 422, "npy_invalid"),
    ("/embed", NPY, npy(np.array([None]), allow_pickle=True), 422, "npy_invalid"),
    ("/embed", {"Content-Type": "text/plain"}, b"x", 415, "media_type_unsupported"),
    ("/embed", {}, b"x", 415, "media_type_unsupported"),
    ("/embed", {"Content-Type": "multipart/form-data"}, b"x", 400, "multipart_invalid"),
    ("/embed", {"Content-Type": "multipart/form-data; boundary=a"}, b"x", 400, "multipart_invalid"),
    (
        "/embed",
        {"Content-Type": "multipart/form-data; boundary=a"},
        b'--a\r\nContent-Disposition: form-data; name="images"\r\n\r\ncut off',
        400,
        "multipart_invalid",
    ),
    (
        "/embed",
        {"Content-Type": "multipart/form-data; boundary=a"},
        b'--a\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--a--\r\n',
        400,
        "multipart_invalid",
    ),
    (
        "/embed",
        {"Content-Type": "multipart/form-data; boundary=a"},
        b'--a\r\nContent-Disposition: form-data; name="images"\r\n\r\nx\r\n' * 5000,
        422,
        "too_many_items",
    ),
    ("/embed", {**JSON, "Content-Encoding": "gzip"}, b"x", 415, "body_compressed"),
    ("/classify", JSON, b'{"embeddings": [[1]]}', 422, "json_invalid"),
    ("/classify", JSON, b'{"embeddings": [[1, 2]], "space": "s"}', 422, "json_invalid"),
    ("/classify", JSON, b'{"embeddings": [[NaN]], "space": "s"}', 422, "json_invalid"),
    (
        "/classify",
        JSON,
        json.dumps({"embeddings": [[0.0] * 8], "space": "sha256:" + "0" * 64}).encode(),
        409,
        "space_mismatch",
    ),
    ("/decode", JSON, b'{"latents": [[1, 2, 3]]}', 422, "json_invalid"),
    ("/decode", JSON, b'{"latents": [[1, 2, 3, 1e39]]}', 422, "json_invalid"),
    ("/decode", JSON, b'{"latents": [["1", 2, 3, 4]]}', 422, "json_invalid"),
    ("/decode", JSON, b'{"latents": []}', 422, "no_images"),
    ("/decode", NPY, npy(np.full((1, 4), np.nan, np.float32)), 422, "npy_invalid"),
    ("/decode", NPY, npy(np.zeros((4,), np.float32)), 422, "npy_invalid"),
    ("/sample", JSON, b'{"count": 0}', 422, "json_invalid"),
    ("/sample", JSON, b'{"count": 100000}', 422, "too_many_items"),
    ("/sample", JSON, b'{"count": 1, "label": "cow"}', 422, "label_unknown"),
    ("/sample", JSON, b'{"count": 1, "seed": -1}', 422, "json_invalid"),
    ("/nowhere", JSON, b"{}", 404, "not_found"),
    ("/readyz", JSON, b"{}", 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("route", "headers", "body", "status", "code"), MALFORMED)
def test_malformed_request(server, route, headers, body, status, code) -> None:
    """A request that is not what the route takes is a problem document that says why."""
    check_problem(server.client.post(route, content=body, headers=headers), status, code)


def test_wrong_method_names_the_right_one(server) -> None:
    """405 bears Allow, as RFC 9110 asks."""
    answer = server.client.get("/embed")
    check_problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("chunked", [False, True])
def test_oversize_body(serve, bundle_dir, chunked) -> None:
    """A body over the limit is the same 413 with Content-Length and chunked, and the next request
    of the connection is answered.
    """
    server = serve(bundle_dir, HANDFUL_MAX_BODY_BYTES="100000").wait_ready()
    body = bytes(300_000)
    content = (body[start : start + 10_000] for start in range(0, len(body), 10_000))
    answer = server.client.post(
        "/embed", content=content if chunked else body, headers={"Content-Type": "image/png"}
    )
    check_problem(answer, 413, "body_too_large")
    assert server.client.get("/readyz").status_code == 200


def test_no_head_and_no_decoder(grey_server) -> None:
    """Without a head /classify is 409 and names the command that fits one; without a decoder the
    decoding routes are 409.
    """
    post = grey_server.client.post
    found = check_problem(post("/classify", json={"images": ["a"]}), 409, "no_head")
    assert "handful-train head grey IMAGES --labels" in found["detail"]
    check_problem(post("/decode", json={"latents": [[0] * 4]}), 409, "no_decoder")
    check_problem(post("/sample", json={"count": 1}), 409, "no_decoder")
    check_problem(post("/reconstruct", json={"images": ["a"]}), 409, "no_decoder")
    image = np.zeros((28, 28, 1), np.uint8)
    assert post("/embed", content=npy(image), headers=NPY).status_code == 200
    assert grey_server.client.get("/model").json()["routes"] == ["/embed"]


def test_no_classes(serve, make_bundle, tmp_path) -> None:
    """Without classes a sample of a label is 409, and samples of none are drawn."""
    server = serve(make_bundle(tmp_path / "headless", with_head=False)).wait_ready()
    answer = server.client.post("/sample", json={"count": 1, "label": "cat"})
    found = check_problem(answer, 409, "no_classes")
    assert "handful-train head animals IMAGES --labels" in found["detail"]
    assert server.client.post("/sample", json={"count": 1}).status_code == 200


def test_base64_of_one_item(server, picture) -> None:
    """What is not base64, or is a URL, is that item's error alone: nothing is ever fetched."""
    images = [
        base64.b64encode(picture()).decode(),
        "http://127.0.0.1:1/x.png",
        "data:image/png;base64,AAAA",
        "%%%",
    ]
    found = server.client.post("/embed", json={"images": images}).json()
    assert [e["code"] for e in found["errors"]] == ["base64_invalid"] * 3
    assert found["embeddings"][0] is not None


SMUGGLED = {
    "both lengths": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "no number": b"Content-Length: five\r\n\r\nabcde",
    "NUL": b"X-A: a\0b\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("headers", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_ambiguous_framing(server, headers) -> None:
    """A request that two parsers could cut differently is 400 and ends the connection."""
    with server.connect() as raw:
        raw.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n" + headers)
        received = b""
        while piece := raw.recv(65_536):  # until the server closes
            received += piece
    assert received.split(b" ", 2)[1] == b"400", received
    assert server.status("/readyz") == 200


@pytest.fixture
def fragile_bundle(bundle_dir: Path, tmp_path: Path) -> Path:
    """A bundle whose encoder gives NaN for images all of a light grey, which no check has seen."""
    model = onnx.load(bundle_dir / "encoder.onnx")
    add = model.graph.node.append
    for output in model.graph.node:  # the rest of the graph sees what it saw
        output.output[:] = ["sound" if name == "embedding" else name for name in output.output]
        output.input[:] = ["sound" if name == "embedding" else name for name in output.input]
    add(helper.make_node("ReduceMin", ["flat", "columns"], ["darkest"], keepdims=1))
    add(helper.make_node("Sub", ["darkest", "grey"], ["off"]))
    add(helper.make_node("Abs", ["off"], ["apart"]))
    add(helper.make_node("Sub", ["apart", "near"], ["room"]))  # negative: the darkest is that grey
    add(helper.make_node("Sqrt", ["room"], ["root"]))
    add(helper.make_node("Mul", ["root", "zero"], ["nothing"]))
    add(helper.make_node("Add", ["sound", "nothing"], ["embedding"]))
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name)
        for name, value in (
            ("columns", np.array([1])),
            ("grey", np.float32(0.8)),
            ("near", np.float32(0.1)),
            ("zero", np.float32(0)),
        )
    )
    old = Bundle.load(bundle_dir, device="cpu", threads=1)
    files = {name: (bundle_dir / name).read_bytes() for name in old.manifest.files}
    files["encoder.onnx"] = model.SerializeToString()
    spec = old.manifest.image
    encoder = Encoder.open(files["encoder.onnx"], spec, 8, 4, "cpu", 1)
    images = np.random.default_rng(0).integers(0, 256, (2, *spec.shape), np.uint8)
    files["golden.npz"] = make_golden(images, encoder, old.head)
    digests = {name: digest(data) for name, data in files.items()}
    space = space_digest(digests["encoder.onnx"], spec, old.manifest.pixels_version)
    manifest = old.manifest.model_copy(update={"files": digests, "space": space})
    Bundle.save(tmp_path / "fragile", manifest, files)
    return tmp_path / "fragile"


def test_nonfinite_output_fails_its_item_only(serve, fragile_bundle) -> None:
    """NaN in the output for one item is 500 `nonfinite_output`, for it alone and listed in a
    batch.
    """
    server = serve(fragile_bundle).wait_ready()
    good, bad = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 204, np.uint8)
    for route, key in (("/embed", "embeddings"), ("/classify", "predictions")):
        batch = server.client.post(route, content=npy(np.stack([good, bad, good])), headers=NPY)
        found = batch.json()
        assert [item is None for item in found[key]] == [False, True, False]
        assert [(e["index"], e["code"]) for e in found["errors"]] == [(1, "nonfinite_output")]
    buffer = io.BytesIO()
    Image.fromarray(bad).save(buffer, "PNG")
    headers = {"Content-Type": "image/png"}
    answer = server.client.post("/embed", content=buffer.getvalue(), headers=headers)
    check_problem(answer, 500, "nonfinite_output")

"""The OpenAPI document is whole: each route, each body form, each status, examples that fit."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from handful_service.errors import KINDS

INFERENCE = ("/embed", "/classify", "/reconstruct")
ROUTES = {
    ("post", "/embed"), ("post", "/classify"), ("post", "/decode"), ("post", "/reconstruct"),
    ("post", "/sample"), ("get", "/model"), ("get", "/livez"), ("get", "/readyz"),
    ("get", "/metrics"),
}  # fmt: skip


@pytest.fixture(scope="module")
def document(server) -> dict[str, Any]:
    return server.client.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def contents(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for _, path, operation in operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in bodies:
            for media_type, content in body.get("content", {}).items():
                yield f"{path} {media_type}", content


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    resource = DRAFT202012.create_resource(document)
    registry = Registry().with_resource("urn:document", resource)
    # References are relative to the document, wherever they stand in it.
    text = re.sub(r'"#/', '"urn:document#/', json.dumps(schema))
    return Draft202012Validator(json.loads(text), registry=registry)


def test_valid_and_complete(document) -> None:
    """The document is valid OpenAPI 3.1 and has every route, with a summary and a 200."""
    validate(document)
    assert {(method, path) for method, path, _ in operations(document)} == ROUTES
    for _, _, operation in operations(document):
        assert operation["summary"]
        assert operation["responses"]["200"]["description"]


def test_body_forms(document, server) -> None:
    """The routes that take images document all forms, each inference route its binary answers."""
    forms = {"image/jpeg", "image/png", "image/webp", "multipart/form-data", "application/json"}
    for path in INFERENCE:
        body = document["paths"][path]["post"]["requestBody"]
        assert body["required"] is True
        assert set(body["content"]) == forms | {"application/x-npy"}
    embed = document["paths"]["/embed"]["post"]["responses"]["200"]["content"]
    assert set(embed) == {"application/json", "application/x-npy"}
    decode = document["paths"]["/decode"]["post"]["responses"]["200"]["content"]
    assert set(decode) == {"application/json", "application/x-npy", "image/png"}


def test_examples_fit_their_schemas(document) -> None:
    """Every example of a body and of a schema is valid against its schema, and there are some."""
    checked = 0
    for place, content in contents(document):
        examples = [content["example"]] if "example" in content else []
        examples += [entry["value"] for entry in content.get("examples", {}).values()]
        for example in examples:
            errors = list(validator(document, content["schema"]).iter_errors(example))
            assert not errors, (place, errors)
            checked += 1
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            errors = list(validator(document, schema).iter_errors(example))
            assert not errors, (name, errors)
            checked += 1
    assert checked > 30


def test_problems_are_documented(document) -> None:
    """Every code of the table is documented on some route, under its own status, as
    problem+json of the one schema, with the headers that every response bears.
    """
    seen = {}
    for _, path, operation in operations(document):
        for status, response in operation["responses"].items():
            assert {"X-Request-ID", "X-Model-Version", "Server-Timing"} <= set(response["headers"])
            if int(status) < 400:
                continue
            (media_type,) = response["content"]
            assert media_type == "application/problem+json"
            content = response["content"][media_type]
            assert content["schema"]["$ref"].endswith("/Problem")
            assert ("Retry-After" in response["headers"]) == (status in {"429", "503", "504"}), path
            for code in content["examples"]:
                seen[code] = int(status)
    # Two belong to no route, and one is only ever an item's.
    elsewhere = {"not_found", "method_not_allowed", "base64_invalid"}
    assert seen == {c: kind.status for c, kind in KINDS.items() if c not in elsewhere}


def test_examples_work(document, server) -> None:
    """The documented examples of inference bodies are answered, not refused as malformed."""
    image = document["paths"]["/embed"]["post"]["requestBody"]["content"]["application/json"]
    body = image["examples"]["images"]["value"]
    for path in INFERENCE:
        assert server.client.post(path, json=body).status_code == 200
    raw = base64.b64decode(body["images"][0])
    answer = server.client.post("/embed", content=raw, headers={"Content-Type": "image/png"})
    check = validator(document, {"$ref": "#/components/schemas/EmbedResponse"})
    check.validate(answer.json())
    sample = document["paths"]["/sample"]["post"]["requestBody"]["content"]["application/json"]
    assert server.client.post("/sample", json=sample["example"]).json()["code"] == "label_unknown"


@pytest.mark.parametrize(
    ("path", "body", "schema"),
    [
        ("/embed?space=latent", {"images": ["AAAA"]}, "EmbedResponse"),
        ("/classify", {"images": ["AAAA"]}, "ClassifyResponse"),
        ("/decode", {"latents": [[0] * 4] * 2}, "ImagesResponse"),
        ("/sample", {"count": 2, "label": "cat"}, "ImagesResponse"),
        ("/reconstruct", {"images": ["AAAA", "AAAA"]}, "ReconstructResponse"),
    ],
)
def test_answers_fit_their_schemas(document, server, picture, path, body, schema) -> None:
    """What the routes really answer, with and without failed items, is what the document says."""
    check = validator(document, {"$ref": f"#/components/schemas/{schema}"})
    check.validate(server.client.post(path, json=body).json())
    if "images" in body:
        good = {"images": [base64.b64encode(picture()).decode(), *body["images"]]}
        check.validate(server.client.post(path, json=good).json())


def test_docs_page(server) -> None:
    """/docs is a page that loads the document."""
    assert "/openapi.json" in server.client.get("/docs").text

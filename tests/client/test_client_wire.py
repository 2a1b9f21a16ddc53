"""The client's wire types against the service's own description of them."""

import types
import typing

import httpx
import pytest
from pydantic import BaseModel

from handful_client import wire

PAIRS = {
    "ModelRef": wire.ModelRef,
    "ItemError": wire.ItemError,
    "EmbedResponse": wire.EmbedAnswer,
    "Prediction": wire.Prediction,
    "ClassifyResponse": wire.ClassifyAnswer,
    "ImagesResponse": wire.ImagesAnswer,
    "ReconstructResponse": wire.ReconstructAnswer,
    "ModelResponse": wire.ModelInfo,
    "Limits": wire.Limits,
    "Problem": wire.Problem,
}
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}
# (schema, field): the client knows more of it than OpenAPI says, or takes more than a service sends
KNOWN = {
    ("ModelResponse", "manifest"): "an object without a schema there, the manifest's fields here",
    ("ModelResponse", "settings"): "None here for a bundle without a service",
}


@pytest.fixture(scope="module")
def schemas(service):
    return httpx.get(f"{service}/openapi.json", trust_env=False).json()["components"]["schemas"]


def form_of_schema(schema, schemas):
    """Reduce a JSON schema to nested names of types."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return frozenset(form_of_schema(one, schemas) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return ("array", form_of_schema(schema["items"], schemas))
    if schema.get("type") == "object":
        extra = schema.get("additionalProperties")
        return ("object", form_of_schema(extra, schemas) if isinstance(extra, dict) else "any")
    return schema.get("type", "any")


def form_of_type(annotation):
    """Reduce a Python type to the same names."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {types.UnionType, typing.Union}:
        return frozenset(form_of_type(one) for one in arguments)
    if origin is list:
        return ("array", form_of_type(arguments[0]))
    if origin is dict:
        return ("object", form_of_type(arguments[1]))
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return next(name for name, kind in PAIRS.items() if kind is annotation)
    return PLAIN.get(annotation, "any")


@pytest.mark.parametrize("name", PAIRS)
def test_wire_types_are_the_services(name, schemas):
    """Every field of the schema is in the client's type and the other way round, typed alike."""
    offered, fields = schemas[name]["properties"], PAIRS[name].model_fields
    assert offered.keys() == fields.keys()
    for field in offered.keys() - {known for schema, known in KNOWN if schema == name}:
        expected = form_of_schema(offered[field], schemas)
        assert form_of_type(fields[field].annotation) == expected, field


@pytest.mark.parametrize("name", PAIRS)
def test_what_the_client_requires_is_always_sent(name, schemas):
    """A field without a default here is a required one there."""
    needed = {field for field, info in PAIRS[name].model_fields.items() if info.is_required()}
    assert needed <= set(schemas[name].get("required", []))


def test_every_schema_of_an_answer_has_a_type(schemas, service):
    """No JSON answer of an inference route has a schema that the client does not know."""
    document = httpx.get(f"{service}/openapi.json", trust_env=False).json()
    for path in ("/embed", "/classify", "/decode", "/reconstruct", "/sample", "/model"):
        for operation in document["paths"][path].values():
            for answer in operation["responses"].values():
                for kind, content in answer.get("content", {}).items():
                    if "json" in kind:
                        assert content["schema"]["$ref"].rpartition("/")[2] in PAIRS


def test_the_manifest_type_is_the_bundles(bundle_dir):
    """The client's manifest has the fields of the bundle's."""
    from handful_bundle.manifest import ImageSpec, Manifest

    assert wire.Manifest.model_fields.keys() == Manifest.model_fields.keys()
    assert wire.ImageBlock.model_fields.keys() == ImageSpec.model_fields.keys()


def test_newer_answers_are_still_understood():
    """Fields that this release does not know are let through."""
    answer = {"name": "m", "version": "1", "space": "s", "born": "later"}
    assert wire.ModelRef.model_validate(answer).name == "m"

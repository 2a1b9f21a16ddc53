"""What is not needed to be ready is not imported before: starting takes a second, not many."""

import json
import subprocess
import sys

import pytest

SLOW = {"mlflow", "torch", "sklearn", "scipy", "pandas", "matplotlib", "requests", "httpx"}
HEAVY = {"numpy", "onnxruntime", "onnx", "pydantic", "fastapi", "starlette", "uvicorn", "PIL"}


def imported(code: str) -> set[str]:
    """The top packages that `code` brings into an interpreter of its own."""
    tell = "import json, sys; print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {tell}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def of_the_server() -> set[str]:
    """All that is imported when a server with a bundle is about to listen."""
    return imported("import handful_service.server, handful_service.app")


def test_the_server_imports_nothing_slow(of_the_server) -> None:
    """No training library and no registry client is on the way to readiness."""
    assert not SLOW & of_the_server


def test_the_parent_imports_nothing_heavy() -> None:
    """The process that watches over the one that serves knows the standard library alone."""
    assert not (SLOW | HEAVY) & imported("import handful_service.cli")


def test_the_look_sees_what_is_there(of_the_server) -> None:
    """The same look finds what the server does need."""
    assert of_the_server >= HEAVY


def test_the_document_is_made_when_it_is_asked_for() -> None:
    """The OpenAPI document is not made at start."""
    code = "from handful_service.app import create_app; app = create_app(); "
    check = "assert app.openapi_schema is None; assert app.openapi(); assert app.openapi_schema"
    assert "fastapi" in imported(code + check)

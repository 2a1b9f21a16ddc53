"""The README's examples, run as they stand."""

import re
import shlex
from pathlib import Path

import pytest

from handful_client.cli import main

README = Path(__file__).parents[2] / "clients" / "python" / "README.md"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path, photos, service, bundle_dir, monkeypatch):
    """A folder with what the examples speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HANDFUL_URL", service)
    (tmp_path / "model").symlink_to(bundle_dir)
    (tmp_path / "photos").mkdir()
    for name, photo in zip(
        ["cat.jpg", "dog.png", "more.jpg", "photos/a.jpg"], photos, strict=False
    ):
        (tmp_path / name).write_bytes(photo)
    return tmp_path


@pytest.mark.parametrize("code", blocks("python"))
def test_python_examples(folder, code):
    """Each Python example runs by itself."""
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines()])
def test_command_examples(folder, line):
    """Each command succeeds."""
    program, *arguments = shlex.split(line)
    assert program == "handful"
    assert main(arguments) == 0


def test_there_are_examples():
    """The README has examples of both kinds."""
    assert len(blocks("python")) >= 5
    assert len(blocks("sh")) == 1

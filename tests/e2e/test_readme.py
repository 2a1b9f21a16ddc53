"""README's examples, run as they stand."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8000"


def blocks(language: str, word: str) -> list[str]:
    """Return README's code blocks in `language` that hold `word`."""
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return [block for block in found if word in block]


@pytest.fixture(scope="module")
def url(place: Any, trained: dict[str, Any]) -> Any:
    shutil.copyfile(place.images / "nut" / "000.jpg", place.root / "photo.jpg")
    with place.serve("models:/parts@champion") as address:
        yield address


def run(command: list[str], place: Any, url: str) -> str:
    done = subprocess.run(
        command, cwd=place.root, env=place.environment | {"HANDFUL_URL": url},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_curl_examples_answer(place: Any, url: str, program: Callable[..., str]) -> None:
    """Each line of the curl block returns JSON of the route that it asks."""
    program("curl", "apt-get install curl")
    (block,) = blocks("sh", "curl --data-binary")
    lines = block.strip().splitlines()
    assert len(lines) == 3
    for line in lines:
        said = run(["bash", "-c", line.replace(ADDRESS, url) + " --silent --fail"], place, url)
        assert ('"embeddings"' if "/embed" in line else '"predictions"') in said


def test_the_python_example_prints_a_label(place: Any, url: str) -> None:
    """The SDK example runs as it stands and prints one of the labels."""
    (block,) = blocks("python", "from handful_client import")
    said = run([sys.executable, "-W", "error", "-c", block], place, url)
    assert said.split()[0] in ("bolt", "nut", "washer")


def test_the_client_command_classifies_a_folder(place: Any, url: str) -> None:
    """`handful classify photos/ -o answers.csv` writes one row per file."""
    (words,) = re.findall(r"`(handful classify [^`]*)`", README)
    script = Path(sys.executable).with_name("handful")
    done = subprocess.run(
        [script, *words.split()[1:]], cwd=place.root,
        env=place.environment | {"HANDFUL_URL": url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = (place.root / "answers.csv").read_text().splitlines()
    assert len(rows) == 1 + 120 + 6, done.stderr  # header, readable, broken
    assert sum(",bolt" in row or ",nut" in row or ",washer" in row for row in rows) >= 120


def test_every_make_target_and_command_exists() -> None:
    """README names no target of the Makefile and no command of ours that is not there."""
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    done = subprocess.run(
        [Path(sys.executable).with_name("handful-train"), "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for command in set(re.findall(r"^handful-train ([a-z]+)", README, re.MULTILINE)):
        assert re.search(rf"\b{command}\b", done.stdout), command


def test_the_tree_is_the_repository() -> None:
    """Every folder that README's tree names exists."""
    (tree,) = blocks("text", "bundle/handful_bundle/  ")
    folders = re.findall(r"^([a-z_/]+)/  ", tree, re.MULTILINE)
    assert len(folders) >= 7
    for folder in folders:
        assert (ROOT / folder).is_dir(), folder

"""The Dockerfiles, without an engine: linted, and every name in them leads somewhere."""

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "deploy").glob("Dockerfile.*"))


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return (keyword, rest) of each instruction, comments dropped and long lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.name)
def dockerfile(request) -> Path:
    return request.param


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_hadolint_finds_nothing(program, dockerfile):
    """Hadolint has no finding of any level, shell included, and no pragma silences it."""
    config = ROOT / "deploy" / "hadolint.yaml"
    command = [program("hadolint"), "--disable-ignore-pragma", "-c", config, "-f", "json"]
    done = subprocess.run([*command, dockerfile], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == []
    assert done.returncode == 0, done.stderr


def test_hadolint_can_fail(program, tmp_path):
    """The same rules do object to a floating tag and to an unpinned package."""
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN pip install torch\n")
    config = ROOT / "deploy" / "hadolint.yaml"
    done = subprocess.run(
        [program("hadolint"), "-c", config, "-f", "json", bad],
        capture_output=True,
        text=True,
        check=False,
    )
    assert {"DL3007", "DL3013"} <= {finding["code"] for finding in json.loads(done.stdout)}
    assert done.returncode != 0


def test_what_is_copied_exists_and_reaches_the_build(dockerfile):
    """Every COPY from the context names a file that exists and that .dockerignore lets in."""
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [
        source
        for keyword, rest in instructions(dockerfile)
        if keyword == "COPY" and "--from=" not in rest
        for source in shlex.split(rest)[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source in allowed, source


def test_ignored_files_are_no_longer_needed():
    """.dockerignore lets in nothing that no Dockerfile copies."""
    copied = {
        source
        for path in DOCKERFILES
        for keyword, rest in instructions(path)
        if keyword == "COPY" and "--from=" not in rest
        for source in shlex.split(rest)[:-1]
    }
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == copied


def test_commands_in_them_exist(dockerfile, project):
    """Each image starts a console command of the project, or a program that it copies."""
    (entrypoint,) = [rest for keyword, rest in instructions(dockerfile) if keyword == "ENTRYPOINT"]
    (command,) = json.loads(entrypoint)
    own = any(keyword == "COPY" and rest.endswith(f"/bin/{command}")
              for keyword, rest in instructions(dockerfile))  # fmt: skip
    assert command in project["scripts"] or own
    removed = re.findall(r"/opt/handful/bin/([\w-]+)", dockerfile.read_text())
    assert set(removed) <= set(project["scripts"]) - {command}


def test_installs_are_constrained(dockerfile, project):
    """Every pip install takes constraints.txt, and its extras and packages are known there."""
    pinned = {
        line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    installs = [
        part
        for keyword, rest in instructions(dockerfile)
        if keyword == "RUN"
        for part in rest.split("&&")
        if " install " in part and part.strip().startswith("pip")
    ]
    assert installs
    for install in installs:
        words = shlex.split(install.partition(" install ")[2])
        assert words[words.index("-c") + 1] == "constraints.txt", install
        for word in words:
            extras = re.fullmatch(r"\.\[([\w,]+)\]", word)
            if extras:
                assert set(extras[1].split(",")) <= set(project["optional-dependencies"])
            elif re.fullmatch(r"[a-z][\w-]+", word):
                assert word in pinned | {"constraints.txt"}, word


def test_the_service_image_brings_no_training():
    """The service's image installs neither the training's code nor an extra that needs torch."""
    text = (ROOT / "deploy" / "Dockerfile.service").read_text()
    extras = {name for found in re.findall(r'"\.\[([\w,]+)\]"', text) for name in found.split(",")}
    assert extras == {"service", "registry", "gpu"}
    assert "COPY training" not in text


def test_images_do_not_run_as_root(dockerfile):
    """The last USER is numeric and not root, so that an orchestrator can check it."""
    users = [rest for keyword, rest in instructions(dockerfile) if keyword == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_base_images_are_pinned(dockerfile):
    """Every stage builds on another stage or on an image with a full version."""
    named = dict(
        rest.split("=", 1) for keyword, rest in instructions(dockerfile) if keyword == "ARG"
    )
    stages: set[str] = set()
    for keyword, rest in instructions(dockerfile):
        if keyword != "FROM":
            continue
        base, _, stage = rest.split()
        base = base.replace("${PYTHON}", named["PYTHON"])
        assert base in stages or re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base), base
        stages.add(stage)

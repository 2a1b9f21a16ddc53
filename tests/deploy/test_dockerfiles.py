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


def test_what_is_copied_exists_and_reaches_the_build(dockerfile, instructions):
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


def test_ignored_files_are_no_longer_needed(instructions):
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


def test_commands_in_them_exist(dockerfile, project, instructions):
    """Each image starts a console command of the project, or a program that it copies."""
    (entrypoint,) = [rest for keyword, rest in instructions(dockerfile) if keyword == "ENTRYPOINT"]
    (command,) = json.loads(entrypoint)
    own = any(keyword == "COPY" and rest.endswith(f"/bin/{command}")
              for keyword, rest in instructions(dockerfile))  # fmt: skip
    assert command in project["scripts"] or own
    removed = re.findall(r"/opt/handful/bin/([\w-]+)", dockerfile.read_text())
    assert set(removed) <= set(project["scripts"]) - {command}


def installs(path: Path, instructions) -> list[list[str]]:
    """Return the words of each pip command in a Dockerfile."""
    return [
        shlex.split(part)
        for keyword, rest in instructions(path)
        if keyword == "RUN"
        for part in re.split(r"&&|;|\bthen\b", rest)
        if part.split()[:1] == ["pip"]
    ]


def test_installs_are_locked(dockerfile, instructions):
    """Each pip command takes hashed requirements, or nothing but wheels that are here already; and
    the one exception is torch for the CPU, which comes from another index by its exact version.
    """
    commands = installs(dockerfile, instructions)
    assert commands
    unhashed = [words for words in commands if "--require-hashes" not in words]
    for words in commands:
        if "--require-hashes" in words:
            assert re.fullmatch(r"requirements-\w+\.txt", words[words.index("-r") + 1]), words
    for words in unhashed:
        if "--no-index" not in words:
            assert words[-4:] == ["constraints.txt", "--index-url", "$CPU_INDEX", "torch"], words
            assert "--no-deps" in words
    environments = [rest for keyword, rest in instructions(dockerfile) if keyword == "ENV"]
    assert any("PIP_ONLY_BINARY=:all:" in rest for rest in environments)


def test_the_service_image_brings_no_training():
    """The service's image copies neither the training's code nor its requirements."""
    text = (ROOT / "deploy" / "Dockerfile.service").read_text()
    assert "COPY bundle" in text
    assert "training" not in text.partition("ARG PYTHON")[2]
    for name in ("service", "gpu"):
        lock = (ROOT / "deploy" / f"requirements-{name}.txt").read_text()
        assert not re.search(r"^(torch|scikit-learn|mlflow)==", lock, re.MULTILINE)


def test_the_cpu_image_of_the_training_has_nothing_of_cuda(dockerfile, instructions):
    """The program that makes the CPU image's requirements leaves out torch and CUDA alone."""
    programs = [
        found[1]
        for keyword, rest in instructions(dockerfile)
        if keyword == "RUN" and (found := re.search(r"awk '([^']+)' requirements-training", rest))
    ]
    if dockerfile.name != "Dockerfile.training":
        assert not programs
        return
    lock = ROOT / "deploy" / "requirements-training.txt"
    command = ["awk", programs[0], lock]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    name = re.compile(r"^([a-z0-9-]+)==", re.MULTILINE)
    left, whole = set(name.findall(done.stdout)), set(name.findall(lock.read_text()))
    out = whole - left
    assert {"torch", "triton"} <= out
    assert all(re.match(r"torch$|triton$|nvidia-|cuda-", each) for each in out)
    assert not any(re.match(r"nvidia-|cuda-", each) for each in left)
    hashes = re.findall(r"--hash=sha256:\w+", done.stdout)
    assert len(hashes) >= len(left)


def test_images_do_not_run_as_root(dockerfile, instructions):
    """The last USER is numeric and not root, so that an orchestrator can check it."""
    users = [rest for keyword, rest in instructions(dockerfile) if keyword == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_base_images_are_pinned(dockerfile, instructions):
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

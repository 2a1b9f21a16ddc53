"""deploy/requirements-*.txt: what the images install is locked by hash, whole, and nothing more."""

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
# Lock → the extras of the project that it holds, or the packages themselves.
EXTRAS = {
    "service": ("service", "registry"),
    "gpu": ("service", "registry", "gpu"),
    "training": ("training",),
}
ALONE = {"mlflow": ("boto3", "mlflow", "psycopg2-binary"), "build": ("hatchling",)}
NAMES = sorted(EXTRAS | ALONE)
ENTRY = re.compile(r"^[a-z0-9-]+==[^ ]+( ; .+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


@pytest.fixture(params=NAMES)
def lock(request) -> str:
    return request.param


def lines_of(lock: str) -> list[str]:
    lines = (DEPLOY / f"requirements-{lock}.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def requirements_of(lock: str) -> list[Requirement]:
    return [Requirement(line.removesuffix("\\")) for line in lines_of(lock) if line[0] != " "]


def asked_for(lock: str) -> list[Requirement]:
    """Return what the project asks for in an image."""
    if lock in ALONE:
        return [Requirement(name) for name in ALONE[lock]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"]]
    lists += [project["optional-dependencies"][extra] for extra in EXTRAS[lock]]
    return [Requirement(text) for texts in lists for text in texts]


def test_every_package_has_a_version_and_hashes(lock):
    """Each entry is `name==version` with at least one SHA-256, and nothing else is in the file:
    no index, no option, no address.
    """
    lines = lines_of(lock)
    assert lines
    for line, after in zip(lines, [*lines[1:], "end"], strict=True):
        assert ENTRY.match(line) or HASH.match(line), line
        if ENTRY.match(line):
            assert HASH.match(after), line
    assert "://" not in (DEPLOY / f"requirements-{lock}.txt").read_text()


def test_versions_are_those_of_the_constraints(lock):
    """The images hold the versions that the tests ran with. Unpinned is only what Linux, and hence
    an image, never takes.
    """
    text = re.sub(r"\s*#.*", "", (ROOT / "constraints.txt").read_text())
    pins = dict(line.split("==") for line in text.split())
    for requirement in requirements_of(lock):
        (specifier,) = requirement.specifier
        if requirement.name not in pins:
            assert str(requirement.marker) == 'sys_platform == "win32"'
        else:
            assert specifier.version == pins[requirement.name], requirement.name


def test_it_holds_what_the_project_asks_for(lock):
    """Each requirement of the project is in the lock, in a version that it allows.

    If this fails, pyproject.toml has changed: `make lock`.
    """
    locked = {each.name: each for each in requirements_of(lock)}
    for requirement in asked_for(lock):
        found = locked[canonicalize_name(requirement.name)]
        (specifier,) = found.specifier
        assert requirement.specifier.contains(specifier.version), requirement


def test_it_is_whole_and_holds_nothing_else(lock):
    """The lock is what these requirements draw in here, neither less nor more, CUDA aside."""
    locked = {
        each.name for each in requirements_of(lock) if each.marker is None or each.marker.evaluate()
    }
    cuda = {name for name in locked if re.match(r"nvidia-|cuda-|triton$", name)}
    assert drawn_in(asked_for(lock)) - {"handful"} - cuda == locked - cuda
    assert bool(cuda) == (lock in ("gpu", "training"))


def drawn_in(requirements: list[Requirement]) -> set[str]:
    """Return the names of all that requirements need, as the installed packages tell it."""
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = list(requirements)
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen or (requirement.marker and not requirement.marker.evaluate()):
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # the CUDA libraries, where there is no GPU
        seen.add(key)
        environments = [{**default_environment(), "extra": extra} for extra in ("", *key[1])]
        for text in distribution.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(map(needed.marker.evaluate, environments)):
                needed.marker = None
                queue.append(needed)
    return {name for name, _ in seen}


def test_the_makefile_writes_every_lock():
    """`make lock` writes exactly these files, with the extras that are meant."""
    makefile = (ROOT / "Makefile").read_text()
    written = re.findall(r"\$\(LOCK\) (.*)-o deploy/requirements-(\w+)\.txt", makefile)
    assert sorted(name for _, name in written) == NAMES
    assert sorted(path.name for path in DEPLOY.glob("requirements-*")) == [
        f"requirements-{name}.txt" for name in NAMES
    ]
    for options, name in written:
        assert tuple(re.findall(r"--extra (\w+)", options)) == EXTRAS.get(name, ())


def test_exceptions_of_the_audit_have_reasons():
    """Each advisory that `make audit` passes over bears an id and a reason."""
    for line in (DEPLOY / "audit-ignore.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Z]+-[\w-]+  \S.{20,}", line), line


@pytest.mark.slow
def test_pip_takes_the_lock_with_hashes_alone(tmp_path):
    """From nothing, pip resolves the service's lock with hashes required, needs nothing that is
    not in it, and refuses it when one hash is wrong.
    """
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    environment = {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"}

    def install(path: Path) -> subprocess.CompletedProcess[str]:
        options = ["--dry-run", "--require-hashes", "--only-binary", ":all:", "-r", path]
        return subprocess.run(
            [sys.executable, "-m", "pip", "--python", venv, "install", *options],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = install(DEPLOY / "requirements-service.txt")
    assert done.returncode == 0, done.stderr
    assert "Would install" in done.stdout
    forged = tmp_path / "forged.txt"
    text = (DEPLOY / "requirements-service.txt").read_text()
    entry = re.search(r"^h11==.*?(?=^\w)", text, re.MULTILINE | re.DOTALL)[0]
    forged.write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", entry))
    done = install(forged)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr

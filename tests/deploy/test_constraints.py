"""constraints.txt pins everything that any part of Handful installs, and this environment obeys."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECTS = (ROOT / "pyproject.toml", ROOT / "clients" / "python" / "pyproject.toml")
OURS = {"handful", "handful-client"}


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    code = [line.partition("#")[0].strip() for line in lines]
    return dict(line.split("==") for line in code if line)


def _declared() -> list[Requirement]:
    """Return every requirement that the two distributions declare, extras and build included."""
    found = []
    for path in PYPROJECTS:
        content = tomllib.loads(path.read_text())
        project = content["project"]
        lists = [project["dependencies"], *project["optional-dependencies"].values()]
        lists.append(content["build-system"]["requires"])
        found += [Requirement(text) for texts in lists for text in texts]
    return [requirement for requirement in found if requirement.name not in OURS]


def test_every_line_is_one_exact_version():
    """Each line is `name==version`, in canonical spelling, none twice."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    names = [line.split("==")[0] for line in lines if not line.startswith("#")]
    assert len(names) == len(set(names))
    assert names == [canonicalize_name(name) for name in names]


@pytest.mark.parametrize("requirement", _declared(), ids=str)
def test_what_is_declared_is_pinned(requirement):
    """Whatever a pyproject.toml asks for is pinned to a version that it allows."""
    pinned = _pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned, prereleases=True)


def test_what_they_draw_in_is_pinned_and_installed_so():
    """Everything that the installed requirements draw in is pinned, and here in that version."""
    pins = _pins()
    bootstrap = ("pip", frozenset[str]())  # comes with the interpreter, and installs the rest
    seen: set[tuple[str, frozenset[str]]] = {bootstrap}
    queue = _declared()
    wrong = []
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        environments = [{**default_environment(), "extra": extra} for extra in ("", *key[1])]
        if key in seen or (requirement.marker and not requirement.marker.evaluate()):
            continue
        seen.add(key)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed here, such as the CUDA libraries
        installed = distribution.version.partition("+")[0]
        if pins.get(name) != installed:
            wrong.append(f"{name} {installed}, pinned {pins.get(name)}")
        for text in distribution.requires or ():
            needed = Requirement(text)
            if needed.marker is None or any(map(needed.marker.evaluate, environments)):
                needed.marker = None
                queue.append(needed)
    assert len(seen) > 100
    assert not wrong


def test_one_onnxruntime():
    """Only one of the two onnxruntime distributions is installed: side by side they break."""
    installed = {canonicalize_name(found.name) for found in metadata.distributions()}
    assert len(installed & {"onnxruntime", "onnxruntime-gpu"}) == 1

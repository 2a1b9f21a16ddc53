"""The service's image, built without an engine: the steps of its Dockerfile, run as they are.

bubblewrap shows the steps the folders that they would see. Python's own image is played by an empty
virtual environment, which has the same two programs, `python` and `pip`.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def image(program, instructions, tmp_path_factory) -> Path:
    """What /opt/handful holds in the image: a virtual environment."""
    bwrap = program("bwrap", "apt-get install bubblewrap")
    disk = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-m", "venv", disk / "python"], check=True)
    kept = "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CERT", "SSL_CERT_FILE"
    user = {key: os.environ[key] for key in kept if key in os.environ}
    (disk / "src").mkdir()
    built: dict[str, dict[str, str]] = {}  # stage → its variables
    stage = base = ""
    for keyword, rest in instructions(ROOT / "deploy" / "Dockerfile.service"):
        if keyword == "FROM":
            base, _, stage = rest.split()
            built[stage] = dict(built.get(base, {}))
        elif stage not in ("build", "wheel", "build-cpu"):  # stages of other images
            continue
        elif keyword == "ENV":
            built[stage] |= dict(word.split("=", 1) for word in shlex.split(rest))
        elif keyword == "COPY" and "--from=" not in rest:
            *sources, target = shlex.split(rest)
            for source in sources:
                copy(ROOT / source, disk / "src" / target / Path(source).name)
        elif keyword == "RUN":
            run(bwrap, disk, rest, {**user, **built[stage]})
    return disk / "opt" / "handful"


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(source, target.parent, ignore=ignored, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def run(bwrap: str, disk: Path, step: str, environment: dict[str, str]) -> None:
    """Run one step in a shell: /src, /opt/handful and /wheels are its own, the rest read-only."""
    options: list[str | Path] = ["--unshare-user", "--dev", "/dev", "--proc", "/proc"]
    options += ["--tmpfs", "/tmp"]
    own = {Path("/dev"), Path("/proc"), Path("/tmp"), Path("/opt"), Path("/src"), Path("/wheels")}
    for path in sorted({*Path("/").iterdir(), *Path("/opt").iterdir()} - own):
        if path.is_symlink():
            options += ["--symlink", path.readlink(), path]
        else:
            options += ["--ro-bind", path, path]
    options += ["--bind", disk, disk]
    for name in ("src", "opt/handful", "wheels"):
        (disk / name).mkdir(parents=True, exist_ok=True)
        options += ["--bind", disk / name, f"/{name}"]
    words = [bwrap, "--die-with-parent", *options, "--chdir", "/src", "sh", "-euc", step]
    known = {"PATH": f"{disk}/python/bin:/usr/bin:/bin", "HOME": "/src", "LANG": "C.UTF-8"}
    done = subprocess.run(
        words, env={**known, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"


def packages(image: Path) -> set[str]:
    (folder,) = image.glob("lib/python3*/site-packages")
    names = (path.name.split("-")[0] for path in folder.glob("*.dist-info"))
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def test_it_holds_the_lock_and_the_project_alone(image):
    """What the image installs is its lock and the project: no pip, no torch, no training."""
    text = (ROOT / "deploy" / "requirements-service.txt").read_text()
    locked = {Requirement(line[:-1]) for line in re.findall(r"^[a-z].*", text, re.MULTILINE)}
    here = {each.name for each in locked if each.marker is None or each.marker.evaluate()}
    assert packages(image) == here | {"handful"}
    (folder,) = image.glob("lib/python3*/site-packages")
    assert {path.name for path in folder.glob("handful_*")} == {"handful_bundle", "handful_service"}
    assert (image / "bin" / "handful-serve").exists()
    assert not (image / "bin" / "handful-train").exists()


def test_its_command_runs(image, bundle_dir):
    """The image's packages alone open a bundle, and its command knows its settings."""
    python = image / "bin" / "python"  # -I: nothing of this environment or folder
    code = """
import sys
from pathlib import Path
from handful_bundle.bundle import Bundle
print(Bundle.load(Path(sys.argv[1])).manifest.name)
"""
    command = [python, "-I", "-c", code, bundle_dir]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "animals\n"
    command = [python, "-I", "-m", "handful_service.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "HANDFUL_CACHE" in done.stdout


def test_the_bill_of_materials_names_what_the_image_holds(image, program):
    """`make sbom` writes valid CycloneDX that names every package of the image, with version."""
    path = ROOT / "dist" / "handful-service.cdx.json"
    path.unlink(missing_ok=True)
    subprocess.run([program("make"), "-o", ".venv/.handful", "sbom"], cwd=ROOT, check=True)
    bill = json.loads(path.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    root = bill["metadata"]["component"]
    assert root["name"] == "handful"
    named = {re.sub(r"[-_.]+", "-", part["name"]).lower() for part in bill["components"]}
    assert named | {"handful"} == packages(image)
    assert all(part["version"] and part["purl"] for part in bill["components"])
    assert str(ROOT) not in path.read_text()

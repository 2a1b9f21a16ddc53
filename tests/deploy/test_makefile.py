"""The commands of the Makefile and the scripts of the repository."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = {"demo", "serve", "test", "lint", "bench", "lock", "sbom", "audit"}
SCRIPTS = (ROOT / ".ci" / "run", ROOT / "deploy" / "mlflow-server")


@pytest.fixture
def make(program):
    """Run make in a folder, with no flags of an outer make."""

    def run(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if "MAKE" not in key}
        return subprocess.run(
            [program("make"), *arguments],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


@pytest.fixture
def clone(tmp_path) -> Path:
    """A folder with what the Makefile itself needs, and no .venv."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "clients/python/pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def test_help_lists_every_command(make):
    """`make` alone and `make help` list each target with what it does."""
    done = make("help")
    assert done.stdout == make().stdout
    listed = set(re.findall(r"make ([a-z-]+) ", done.stdout))
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed == set(phony[1].split())
    assert listed >= TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_commands_install_what_they_need_first(make, clone, target):
    """In a fresh clone each command begins by making .venv with plain pip and constraints.txt."""
    plan = make("--dry-run", target, folder=clone).stdout
    assert "-m venv --clear .venv" in plan
    assert "pip install -q -c constraints.txt" in plan
    assert plan.index("pip install") < plan.rindex(".venv/bin/")


def test_an_interpreter_that_is_missing_is_named(make, clone):
    """Without the interpreter make says which Python to install or name, and makes nothing."""
    done = make("venv", "PYTHON=python2.0", folder=clone)
    assert done.returncode != 0
    assert "No python2.0 found. Install Python 3.11 or newer" in done.stderr
    assert not (clone / ".venv").exists()


def test_an_old_interpreter_is_refused(make, clone):
    """An interpreter older than 3.11 is refused with its version and the remedy."""
    old = clone / "python3.9"
    # Runs the real check, with the version that an old interpreter would report.
    report = "import sys\\nsys.version_info = (3, 9, 2)\\n%s"
    old.write_text(f"#!/bin/sh\nprintf '{report}' \"$2\" | exec python3 -\n")
    old.chmod(0o755)
    done = make("venv", "PYTHON=./python3.9", folder=clone)
    assert done.returncode != 0
    assert "needs Python 3.11 or newer; ./python3.9 is 3.9. Name another one" in done.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_are_sound(program, script):
    """ShellCheck finds nothing, down to style, and the script may be executed."""
    command = [program("shellcheck"), "--severity=style", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert os.access(script, os.X_OK)

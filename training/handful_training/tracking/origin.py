"""What a run says of where it comes from: command, code, versions. No user, host or path."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from handful_training.tracking import fields

PACKAGES = ("handful", "mlflow", "numpy", "onnxruntime-gpu", "onnxruntime", "scikit-learn", "torch")
GIT_SECONDS = 10
_URL = re.compile(r"[A-Za-z][\w+.-]*://[^\s]+")
_FOLDERS = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[/\\~](?:[^/\\\s=]*[/\\])*")


def origin(command: list[str] | None = None) -> dict[str, str]:
    """Return the tags of a run that was started by `command` (by default this process's)."""
    words = sys.argv if command is None else command
    tags = {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": Path(words[0]).name if words else "python",
        "handful.command": " ".join(
            [Path(w).name for w in words[:1]] + [_short(w) for w in words[1:]]
        ),
        "handful.python": ".".join(map(str, sys.version_info[:3])),
    }
    tags |= {f"handful.version.{name}": found for name, found in versions().items()}
    if commit := git_commit():
        tags["mlflow.source.git.commit"] = commit
    return tags


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that results may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Return the commit of this code, with `-dirty` where it was changed since.

    None where it does not run from a checkout, as when it was installed.
    """
    here = Path(__file__)
    # An installed copy may lie inside somebody else's checkout: ask whether git knows this file.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            ["git", *arguments],  # noqa: S607 - the user's own git
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout.strip() or None) if done.returncode == 0 else None


def _short(word: str) -> str:
    """Reduce absolute paths in a word of a command line to their last part, URLs to their place."""
    found = _URL.search(word)
    if found is not None:
        return word[: found.start()] + fields.place(found[0])[1]
    return _FOLDERS.sub("", word.rstrip("/\\")) or word

"""The virtual environment of each peer, exactly pinned, made the first time that it is needed.

`python serving_venvs.py` writes the pins, peers/requirements-PEER.txt, anew: each peer's version
from here, what it shares with the service from constraints.txt, and uv resolves the rest.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from serving_load import ServerFailed

HERE = Path(__file__).parent
PEERS = HERE / "peers"
CONSTRAINTS = HERE.parents[1] / "constraints.txt"
VERSIONS = {"litserve": "0.2.19", "bentoml": "1.4.39", "mlserver": "1.7.1", "mlflow": "3.17.2"}
# What the pixels code and the model run on: the same for all, in our version.
SAME = ("numpy", "onnx", "onnxruntime-gpu", "pillow", "pydantic", "simplejpeg")
# uvloop and httptools, which uvicorn takes where they are: not every peer asks for them.
FAST_HTTP = "uvicorn[standard]"
# MLServer's worker processes ask for an event loop that uvloop makes by itself until 0.21 only.
BESIDES = {"mlserver": ("uvloop<0.22",)}


def interpreter(peer: str, work: Path) -> Path:
    """Return the Python of a peer's virtual environment, made now or before.

    Raises:
        ServerFailed: it cannot be made.
    """
    pins = requirements(peer)
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()
    home = (work / "venvs" / peer).absolute()
    made = home / "made"  # written last: an install that was cut short starts anew
    if not (made.exists() and made.read_text() == digest):
        sys.stderr.write(f"installing {peer} {VERSIONS[peer]} into {home} …\n")
        _run(peer, sys.executable, "-m", "venv", "--clear", home)
        _run(peer, home / "bin" / "pip", "install", "-q", "--only-binary", ":all:", "-r", pins)
        made.write_text(digest)
    return home / "bin" / "python"


def requirements(peer: str) -> Path:
    """Return the file of a peer's pins."""
    return PEERS / f"requirements-{peer}.txt"


def shared_pins() -> Iterator[str]:
    """Yield `name==version` of what all servers share, as constraints.txt has it."""
    for line in CONSTRAINTS.read_text().splitlines():
        if re.split("==", line)[0] in SAME:
            yield line


def lock(peer: str) -> None:
    """Write a peer's pins anew."""
    wanted = [f"{peer}=={VERSIONS[peer]}", FAST_HTTP, *shared_pins(), *BESIDES.get(peer, ())]
    command: list[str | Path] = [
        Path(sys.executable).with_name("uv"), "pip", "compile", "--quiet", "--universal",
        "--python-version", "3.11", "--no-annotate",
        "--custom-compile-command", "python tests/benchmarks/serving_venvs.py",
        "-o", requirements(peer), "-",
    ]  # fmt: skip
    subprocess.run(command, input="\n".join(wanted), text=True, check=True, env=_free())


def _run(peer: str, *command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_free())
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise ServerFailed(
            f"{peer} {VERSIONS[peer]} cannot be installed (Python "
            f"{sys.version_info.major}.{sys.version_info.minor}, {requirements(peer).name}): "
            f"{' '.join(said)}; give pip a package index that has it, or leave it out by --peers"
        )


def _free() -> dict[str, str]:
    """Return the environment without our own constraints: peers need other versions."""
    return {k: v for k, v in os.environ.items() if k not in ("PIP_CONSTRAINT", "PYTHONPATH")}


if __name__ == "__main__":
    for name in VERSIONS:
        lock(name)

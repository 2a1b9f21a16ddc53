"""Containers without an engine: processes that see what they would see in a container.

bubblewrap gives each process a read-only root, its writable folders, its user and its host names; a
network namespace holds all of them. Commands, environments, users, paths and ports are read from
docker-compose.yml and the Dockerfiles, and are changed in nothing but this: the training gets
further options, which make it short. What differs from the images: the packages are those of this
environment, and PostgreSQL is Debian's.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[3]
PASSWORD = "it's a p@ssword/with:signs%"
SHORT = ["--epochs", "2", "--json"] + [
    f"--set={setting}"
    for setting in (
        "image.max_side=16",
        "model.width=8",
        "model.embedding_dim=16",
        "model.latent_dim=4",
    )
]
# What the postgres image's script of this name does with a new volume.
ENTRYPOINT = r"""#!/bin/sh
set -eu
initdb -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" $POSTGRES_INITDB_ARGS
echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -j postgres
echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
exec "$@"
"""
# A script that starts something else in its own place.
BECOMES = {"docker-entrypoint.sh": "postgres", "mlflow-server": "mlflow"}


@dataclass
class Running:
    """A process in its sandbox."""

    container: Any
    process: subprocess.Popen[bytes]
    pid: int  # of the command itself
    log: Path

    def enter(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command beside it, as `docker exec` would."""
        spaces = ("--user", "--mount", "--net", "--pid", "--preserve-credentials")
        words = ["nsenter", f"--target={self.pid}", *spaces, *command]
        pipe, environment = subprocess.PIPE, self.container.environment
        return subprocess.Popen(
            words, env=environment, text=True, stdout=pipe, stderr=pipe, **options
        )

    def run(self, *command: str) -> tuple[int, str, str]:
        """Run a command beside it to its end; returns status, stdout and stderr."""
        with self.enter(*command) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def seen(self) -> tuple[list[str], dict[str, str]]:
        """Return arguments and environment of the process, as the kernel shows them."""
        first = self.container.entrypoint[0]
        program = BECOMES.get(first, first)

        def words(name: str) -> list[str]:
            return Path(f"/proc/{self.pid}/{name}").read_text().rstrip("\0").split("\0")

        self.wait(lambda: any(Path(word).name == program for word in words("cmdline")[:2]))
        return words("cmdline"), dict(word.split("=", 1) for word in words("environ"))

    def wait(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds."""
        wait(condition, self.log)

    def stop(self) -> int:
        """Tell it to stop, and return its exit status."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(60)


@dataclass(frozen=True)
class Training:
    """A training that has ended well: what it said, and what it was started with."""

    result: dict[str, Any]
    more: list[str]  # arguments beside the container's
    argv: list[str]
    environment: dict[str, str]


class Host:
    """A machine for containers, with a network of its own.

    Args:
        root: a new folder that every user may enter; volumes and logs are made there.
        bwrap: the path of bubblewrap.
    """

    def __init__(self, root: Path, bwrap: str) -> None:
        self.root = root
        self._bwrap = bwrap
        self._started: list[Running] = []
        self._local = root / "bin"
        self._local.mkdir()
        shutil.copy(ROOT / "deploy" / "mlflow-server", self._local)
        (self._local / "docker-entrypoint.sh").write_text(ENTRYPOINT)
        (self._local / "docker-entrypoint.sh").chmod(0o755)
        # Debian's own program of this name is a wrapper that looks for clusters.
        (self._local / "pg_isready").symlink_to("/usr/lib/postgresql/17/bin/pg_isready")
        (root / "hosts").write_text("127.0.0.1 localhost service mlflow postgres\n")
        (root / "passwd").write_text("".join(
            f"{name}:x:{uid}:{uid}::/tmp:/usr/sbin/nologin\n"
            for name, uid in (("root", 0), ("postgres", 999), ("handful", 10001))
        ))  # fmt: skip
        self._network = self._sandbox(
            ["--unshare-user", "--unshare-net", "--dev-bind", "/", "/"],
            ["sleep", "infinity"], {"PATH": os.environ["PATH"]}, "network",
        )  # fmt: skip
        command = Path(f"/proc/{self._network.pid}/cmdline")
        wait(lambda: command.read_text().startswith("sleep"), self._network.log)  # it is set up

    def volume(self, name: str) -> Path:
        """Return a named volume; it is made when needed."""
        path = self.root / "volumes" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def start(
        self, name: str, container: Any, more: tuple[str, ...] = (), **files: Path
    ) -> Running:
        """Start a container; `more` arguments follow its own, `files` are its read-only mounts."""
        postgres = max(Path("/usr/lib/postgresql").glob("*"))
        uid, gid = container.user.split(":")
        options = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--uid", uid, "--gid", gid]
        options += ["--cap-drop", "ALL", "--clearenv", "--chdir", container.directory]
        for folder in ("/usr", "/etc"):
            options += ["--ro-bind", folder, folder]
        for link in ("bin", "lib", "lib64", "sbin"):
            options += ["--symlink", f"usr/{link}", f"/{link}"]
        options += ["--dev", "/dev", "--proc", "/proc"]
        options += ["--ro-bind", self.root / "hosts", "/etc/hosts"]
        options += ["--ro-bind", self.root / "passwd", "/etc/passwd"]
        options += ["--ro-bind", self._local, "/usr/local/bin"]
        for path in sorted(container.scratch):
            options += ["--tmpfs", path]
        for path in sorted(container.volumes):
            options += ["--bind", self.volume(f"{name}{path.replace('/', '-')}"), path]
        for path in sorted(container.read_only):
            options += ["--ro-bind", files[Path(path).name], path]
        # This environment takes the place of the image's; its interpreter is where it is.
        for path in {ROOT, Path(sys.base_prefix)} - {Path("/usr")}:
            options += ["--ro-bind", path, path]
        for path in ("/opt/handful", "/opt/mlflow"):
            options += ["--ro-bind", sys.prefix, path]
        if "/usr/lib/postgresql/17/bin" in container.environment["PATH"]:
            options += ["--tmpfs", "/usr/lib/postgresql"]
            options += ["--ro-bind", postgres, "/usr/lib/postgresql/17"]
        options += ["--remount-ro", "/"]
        for key, value in container.environment.items():
            options += ["--setenv", key, value]
        inside = [
            "nsenter",
            f"--target={self._network.pid}",
            "--user",
            "--net",
            "--preserve-credentials",
        ]
        running = self._sandbox(
            options, [*container.argv, *more], {}, name, inside=inside, container=container
        )
        self._started.append(running)
        return running

    def _sandbox(
        self,
        options: list[Any],
        command: list[str],
        environment: dict[str, str],
        name: str,
        inside: list[str] | None = None,
        container: Any = None,
    ) -> Running:
        """Start a command in a sandbox, and find its process."""
        reading, writing = os.pipe()
        log = self.root / f"{name}.log"
        words = [self._bwrap, "--die-with-parent", "--info-fd", writing, *options, "--", *command]
        with log.open("wb") as output, os.fdopen(reading) as told:
            process = subprocess.Popen(
                [*(inside or []), *map(str, words)], env=environment, pass_fds=[writing],
                stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
            os.close(writing)
            text = told.read()
        assert text, log.read_text()
        pid = int(json.loads(text)["child-pid"])
        if container is not None:  # it is the sandbox's process 1, and the command its child
            children = Path(f"/proc/{pid}/task/{pid}/children")
            wait(lambda: process.poll() is not None or children.read_text().split(), log)
            assert process.poll() is None, log.read_text()
            pid = int(children.read_text().split()[0])
        return Running(container, process, pid, log)

    def close(self) -> None:
        """Stop whatever still runs, the last first."""
        for running in [*reversed(self._started), self._network]:
            if running.process.poll() is None:
                try:
                    running.stop()
                except subprocess.TimeoutExpired:  # its sandbox takes it along
                    running.process.kill()
                    running.process.wait()


def wait(condition: Callable[[], object], log: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def host(program: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    bwrap = program("bwrap", "apt-get install bubblewrap")
    program("nsenter", "apt-get install util-linux")
    if not list(Path("/usr/lib/postgresql").glob("*/bin")):
        program("postgres", "apt-get install postgresql")
    if subprocess.run(
        [bwrap, "--unshare-user", "--bind", "/", "/", "true"], check=False
    ).returncode:
        message = "user namespaces are not allowed here"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    found = Host(tmp_path_factory.mktemp("host"), bwrap)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def healthy(stack: dict[str, Any]) -> Callable[[str, Running], None]:
    """Wait until Compose would call a container healthy, by its own check run inside of it."""

    def check(name: str, running: Running) -> None:
        kind, *command = stack["services"][name]["healthcheck"]["test"]
        assert kind == "CMD"

        deadline = time.monotonic() + 180
        while (answer := running.run(*command))[0] != 0:
            assert running.process.poll() is None, running.log.read_text()
            assert time.monotonic() < deadline, (answer, running.log.read_text())
            time.sleep(0.1)

    return check


@pytest.fixture(scope="module")
def servers(host: Host, composed: dict[str, Any], healthy: Any) -> dict[str, Running]:
    """PostgreSQL and MLflow, well."""
    secret = host.root / "postgres_password"
    secret.write_text(PASSWORD + "\n")
    running = {}
    for name in ("postgres", "mlflow"):
        running[name] = host.start(name, composed[name], postgres_password=secret)
        healthy(name, running[name])
    return running


@pytest.fixture(scope="module")
def photos(host: Host) -> Path:
    """Two folders of pictures that are easy to tell apart: bright above, or bright on the left."""
    rng = np.random.default_rng(0)
    for label in ("above", "left"):
        folder = host.root / "images" / label
        folder.mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(0, 60, (16, 16), np.uint8)
            pixels[(slice(0, 8) if label == "above" else slice(None)),
                   (slice(0, 8) if label == "left" else slice(None))] += 150  # fmt: skip
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return host.root / "images"


@pytest.fixture(scope="module")
def trained(
    host: Host, composed: dict[str, Any], servers: dict[str, Running], photos: Path
) -> Training:
    """A training, run to its end."""
    running = host.start("train", composed["train"], tuple(SHORT), images=photos)
    argv, environment = running.seen()
    status = running.process.wait(300)
    assert status == 0, running.log.read_text()
    result = json.loads(running.log.read_text().splitlines()[-1])
    return Training(result, SHORT, argv, environment)


@pytest.fixture(scope="module")
def service(host: Host, composed: dict[str, Any], trained: Training, healthy: Any) -> Running:
    """The service, healthy: it has found the model by itself."""
    running = host.start("service", composed["service"])
    healthy("service", running)
    return running

"""Start a server, wait until it answers, hold its answers against the offline ones, and end it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from serving_cases import Case
from serving_load import ServerFailed, send
from serving_peers import CONSTANT, Place, Server, environment
from serving_requests import BATCH
from serving_venvs import interpreter

PATIENCE = 120  # seconds until a server answers
GRACE = 3  # seconds to end in good order
TOLERANCE = 1e-4  # between an answer and the offline embedding


@dataclass(frozen=True)
class Running:
    """A server that answers, and rightly."""

    url: str
    process: psutil.Process
    seconds: float  # until it did


@contextmanager
def started(server: Server, case: Case, work: Path, cores: Sequence[int]) -> Iterator[Running]:
    """Start a server on some cores, and end it.

    Args:
        server: which.
        case: what it serves.
        work: where virtual environments, models and logs go.
        cores: that all its processes run on.

    Raises:
        ServerFailed: it cannot be installed, does not answer, or answers wrongly.
    """
    python = Path(sys.executable) if server.peer is None else interpreter(server.peer, work)
    folder = (work / "servers" / server.name.replace(" ", "-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(python, case.root.absolute(), folder, _free_ports(), len(cores))
    command = server.command(place)
    threads = str(1 if server.workers else len(cores))
    variables = environment() | {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",  # MLflow calls uvicorn
        "BENCH_BUNDLE": str(place.bundle),
        "BENCH_THREADS": threads,
        "BENCH_WORKERS": str(len(cores)),
        "BENCH_PORT": str(place.ports[0]),
        "BENTOML_HOME": str(folder),
        "HANDFUL_THREADS": threads,
        "OMP_NUM_THREADS": threads,
    }
    url = f"http://127.0.0.1:{place.ports[0]}"
    pinned = ["taskset", "-c", ",".join(map(str, cores))]
    log = folder / "log"
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        begun = time.monotonic()
        process = subprocess.Popen(
            [*pinned, *command], env=variables, stdout=output, stderr=output, cwd=folder,
            start_new_session=True,
        )  # fmt: skip
        stack.callback(_stop, process)
        while not _answers(server, case, url):
            if process.poll() is not None or time.monotonic() - begun > PATIENCE:
                raise ServerFailed(f"it does not answer; the end of {log}:\n{_tail(log)}")
            time.sleep(0.02)
        ready = time.monotonic() - begun
        check(server, case, url)
        yield Running(url, psutil.Process(process.pid), ready)


def _answers(server: Server, case: Case, url: str) -> bool:
    try:
        send(url, server.form(case.pictures[:1]))
    except (OSError, ServerFailed):
        return False
    return True


def check(server: Server, case: Case, url: str) -> None:
    """Compare every picture's answer, one by one and in batches, with the offline embedding.

    Raises:
        ServerFailed: one is another.
    """
    if server is CONSTANT:
        return
    for size in (1, BATCH) if server.batches else (1,):
        for start in range(0, len(case.pictures), size):
            request = server.form(case.pictures[start : start + size])
            found = server.read(send(url, request))
            expected = case.embeddings[start : start + size]
            if found.shape != expected.shape or not np.allclose(found, expected, atol=TOLERANCE):
                raise ServerFailed(
                    f"it gives other embeddings than the encoder, {list(found.shape)} for "
                    f"{size} of the pictures from number {start} on"
                )


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a server and all that it started to end, and make them."""
    everyone = [one for one in psutil.process_iter() if _session(one.pid) == process.pid]
    if process.poll() is None:
        everyone += psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        _, everyone = psutil.wait_procs(everyone, timeout=GRACE)
    for one in everyone:  # that did not listen, or whose first process has ended by itself
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(everyone, timeout=GRACE)
    process.wait()


def _session(pid: int) -> int | None:
    """Return the process that began a process's session: of a server, its first."""
    try:
        return os.getsid(pid)
    except OSError:
        return None  # ended meanwhile


def _free_ports() -> tuple[int, int, int]:
    """Return ports that nobody listens on now."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        first, second, third = (one.getsockname()[1] for one in found)
    return first, second, third

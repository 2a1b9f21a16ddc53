"""The real commands as processes: start them, wait for what they promise, always stop them."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

READY_SECONDS = 120
STOP_SECONDS = 40
_HOST = "127.0.0.1"


class StackError(Exception):
    """A command failed. The message shows how to see why."""


def command(name: str) -> str:
    """Return the path of an installed command: it stands beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


def train(*arguments: str) -> str:
    """Run `handful-train …` to its end, its progress shown, and return what it prints.

    Raises:
        StackError: it exits with another status than 0.
    """
    words = ["handful-train", *arguments]
    with running([command(words[0]), *words[1:]], stdout=subprocess.PIPE) as process:
        out, _ = process.communicate()
    if process.returncode != 0:
        raise StackError(f"`{' '.join(words)}` ended with status {process.returncode}, see above")
    return out


def train_json(*arguments: str) -> dict[str, Any]:
    """Run `handful-train … --json` and return its JSON object.

    Raises:
        StackError: it exits with another status than 0 or prints something else.
    """
    out = train(*arguments, "--json")
    try:
        result: dict[str, Any] = json.loads(out)
    except ValueError as error:
        raise StackError(f"`handful-train {arguments[0]} --json` printed {out!r}") from error
    return result


@contextlib.contextmanager
def service(model: str, log: Path) -> Iterator[str]:
    """Run `handful-serve` on a free port; yields its URL once it is ready.

    Raises:
        StackError: it ends, or is not ready in `READY_SECONDS`.
    """
    words = [command("handful-serve"), "--model", model, "--host", _HOST, "--port", "0"]
    # Looking at the registry each second instead of every fifth keeps the demo short.
    env = {**os.environ, "HANDFUL_POLL_SECONDS": "1", "HANDFUL_WORKERS": "1"}
    with (
        log.open("wb") as file,
        running(words, env=env, stdout=file, stderr=subprocess.STDOUT) as process,
    ):
        deadline = time.monotonic() + READY_SECONDS
        while not ((url := listening(log)) and is_ready(url)):
            if process.poll() is not None:
                last = log.read_text().strip().rpartition("\n")[2]
                raise StackError(f"the service ended: {last or process.returncode}; see {log}")
            if time.monotonic() > deadline:
                raise StackError(f"the service is not ready after {READY_SECONDS} s; see {log}")
            time.sleep(0.1)
        yield url
        if process.poll() is not None:
            raise StackError(f"the service ended by itself, {process.returncode}; see {log}")


def listening(log: Path) -> str | None:
    """Return the URL that the service's log names; None before it does."""
    found = re.search(rf"listening on (http://{re.escape(_HOST)}:\d+)", log.read_text())
    return found and found[1]


def is_ready(url: str) -> bool:
    """Whether a service answers at `url` and says that it is ready."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def running(words: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a session of its own; leaving the block stops it and its children."""
    # Its own session, so that Ctrl-C reaches only the demo, which then stops things in order.
    with subprocess.Popen(words, text=True, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)

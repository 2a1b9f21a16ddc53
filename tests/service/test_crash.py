"""A process that dies under load, by a crash: what it costs, and whom."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import httpx
import pytest

from handful_client import Handful

JPEG = {"Content-Type": "image/jpeg"}


class Load:
    """Clients that ask without a pause, each one request at a time.

    Args:
        server: who is asked.
        picture: draws a picture by its number.
        patient: clients that are the SDK, and try again by themselves.
        plain: clients that do not.
    """

    def __init__(
        self, server: Any, picture: Callable[..., bytes], *, patient: int, plain: int
    ) -> None:
        self._url = server.url
        self._pictures = [picture(seed) for seed in range(8)]
        self._expected = [self._embed(server.client, one) for one in self._pictures]
        self._over = threading.Event()
        self.answered = 0  # by the plain ones
        self.retried = 0  # by the SDK, all of its calls
        self.lost: list[str] = []
        self.wrong: list[Any] = []
        self.failed: list[Exception] = []
        targets = [self._ask_patiently] * patient + [self._ask_plainly] * plain
        self._threads = [threading.Thread(target=target) for target in targets]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @staticmethod
    def _embed(client: httpx.Client, picture: bytes) -> list[float]:
        answer = client.post("/embed", content=picture, headers=JPEG)
        assert answer.status_code == 200, answer.text
        return answer.json()["embeddings"][0]

    def _ask_plainly(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._over.is_set():
                for picture, expected in zip(self._pictures, self._expected, strict=True):
                    try:
                        found = self._embed(client, picture)
                    except httpx.TransportError as error:
                        self.lost.append(type(error).__name__)
                        continue
                    self.answered += 1
                    if found != expected:
                        self.wrong.append(found)

    def _ask_patiently(self) -> None:
        with Handful(self._url, timeout=60) as client:
            while not self._over.is_set():
                try:
                    found = client.embed(self._pictures).embeddings
                except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
                    self.failed.append(error)
                    continue
                self.retried += 1
                if not abs(found - self._expected).max() <= 1e-6:  # NaN, where one failed, too
                    self.wrong.append(found)


def crash(server: Any, load: Load) -> float:
    """Let the process that serves die by SIGSEGV while it is busy; return the seconds until
    somebody answers again.
    """
    before = server.metric("handful_restarts_total"), load.answered, load.retried
    server.wait_until(lambda: load.answered > before[1] + 20 and load.retried > before[2])
    began = time.monotonic()
    os.kill(server.pid, signal.SIGSEGV)
    server.wait_until(lambda: server.status("/readyz") == 200)
    seconds = time.monotonic() - began
    assert server.metric("handful_restarts_total") == before[0] + 1
    return seconds


def test_a_crash_costs_what_was_under_way_and_no_more(serve, bundle_dir, picture) -> None:
    """When the process dies each plain client loses at most its one request, the SDK loses none,
    every answer is the right one, and the log says what happened.
    """
    server = serve(bundle_dir).wait_ready()
    with Load(server, picture, patient=2, plain=2) as load:
        crash(server, load)
        answered = load.answered
        server.wait_until(lambda: load.answered > answered + 20)
    assert load.failed == []
    assert load.wrong == []
    assert len(load.lost) <= 2
    assert "ended by SIGSEGV" in server.logged()
    assert "Fatal Python error: Segmentation fault" in server.logged()
    assert server.stop() == 0


@pytest.mark.slow
def test_many_crashes(serve, bundle_dir, picture) -> None:
    """Twenty crashes, each after a life that was no quick one: the same of all of them, and every
    time somebody answers again soon.
    """
    server = serve(bundle_dir).wait_ready()
    seconds = []
    with Load(server, picture, patient=2, plain=4) as load:
        for _ in range(20):
            time.sleep(10.5)
            seconds.append(crash(server, load))
    print(
        f"\n{len(seconds)} crashes: {len(load.lost)} requests lost by 4 plain clients of "
        f"{load.answered}, {len(load.failed)} failures in {load.retried} calls of the SDK; "
        f"back after {sorted(seconds)[10]:.2f} s, at most {max(seconds):.2f} s"
    )
    assert load.failed == []
    assert load.wrong == []
    assert len(load.lost) <= 4 * len(seconds)
    assert max(seconds) < 30

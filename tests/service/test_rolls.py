"""Replicas that are stopped and replaced one after the other, while clients go on asking."""

import itertools
import select
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from handful_client import Handful

ROLLS = 20


class Balancer:
    """One address for several servers: each connection goes to the next of those that are ready."""

    def __init__(self) -> None:
        self.ready: list[str] = []  # URLs
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._pumps: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._thread, *self._pumps):
            thread.join()

    def _accept(self) -> None:
        for number in itertools.count():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            url = self.ready[number % len(self.ready)]
            pump = threading.Thread(target=self._pump, args=(client, url), daemon=True)
            pump.start()
            self._pumps.append(pump)

    @staticmethod
    def _pump(client: socket.socket, url: str) -> None:
        address = urlsplit(url)
        with client, socket.create_connection((address.hostname, address.port)) as server:
            other = {client: server, server: client}
            with suppress(OSError):
                while True:
                    for source in select.select([client, server], [], [])[0]:
                        piece = source.recv(65_536)
                        if not piece:
                            return
                        other[source].sendall(piece)


@pytest.mark.slow
def test_rolls_cost_nothing(serve, bundle_dir, picture) -> None:
    """Two replicas behind one address are stopped by SIGTERM and replaced in turn, twenty times:
    each ends with status 0, and no call of the SDK fails.
    """
    balancer = Balancer()
    replicas = [serve(bundle_dir).wait_ready() for _ in range(2)]
    balancer.ready = [replica.url for replica in replicas]
    over = threading.Event()
    answered: list[int] = []
    failed: list[Exception] = []
    data = [picture(seed) for seed in range(4)]

    def ask() -> None:
        with Handful(balancer.url, timeout=60) as client:
            while not over.is_set():
                try:
                    answered.append(len(client.classify(data)))
                except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
                    failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(ROLLS):
            before = len(answered)
            oldest = replicas.pop(0)
            balancer.ready = [replicas[0].url]  # a load balancer hears of it before the SIGTERM
            assert oldest.stop() == 0
            replicas.append(serve(bundle_dir).wait_ready())
            balancer.ready = [replica.url for replica in replicas]
            replicas[-1].wait_until(lambda before=before: len(answered) > before + 20)
    finally:
        over.set()
        for thread in threads:
            thread.join()
        balancer.close()
    print(f"\n{ROLLS} rolls: {len(failed)} failures in {len(answered)} calls of the SDK")
    assert failed == []
    assert set(answered) == {4}

"""What large requests took is given back to the system."""

import io
import threading

import numpy as np
from PIL import Image

from handful_service.heap import Heap, malloc_trim

MIB = 2**20


class Machine:
    """Memory that shrinks by what is free in it when it is trimmed."""

    def __init__(self) -> None:
        self.used, self.free, self.trims = 130 * MIB, 0, 0

    def trim(self, _: int) -> int:
        self.trims += 1
        self.used -= self.free
        self.free = 0
        return 1


def looked(heap: Heap, times: int = 1) -> bool:
    """Whether another look would be worth it."""
    again = False
    for _ in range(times):
        again = heap.look()
        for thread in threading.enumerate():
            if thread.name == "heap":
                thread.join()
    return again


def test_it_is_trimmed_where_that_brings_something() -> None:
    """Once at first; then only 32 MiB above the least that was left, and as long as it helps."""
    machine = Machine()
    heap = Heap(lambda: machine.used, machine.trim)
    looked(heap, 50)
    assert machine.trims == 1
    machine.used += 31 * MIB
    looked(heap, 50)
    assert machine.trims == 1
    machine.used += 500 * MIB
    machine.free = 400 * MIB
    looked(heap)
    assert (machine.trims, machine.used) == (2, 261 * MIB)


def test_memory_in_use_is_asked_for_less_and_less() -> None:
    """What cannot be given back is tried again after 1, 3, 7, then every 16 looks; and once it is
    free it is given back within 17.
    """
    machine = Machine()
    heap = Heap(lambda: machine.used, machine.trim)
    looked(heap, 2)
    machine.used += 500 * MIB
    before = machine.trims
    looked(heap, 100)
    assert machine.trims - before <= 10
    machine.free = 500 * MIB
    assert looked(heap), "nobody would look until the next connection"
    looked(heap, 17)
    assert machine.used == 130 * MIB
    assert not looked(heap)


def test_where_nothing_can_be_done_nothing_is() -> None:
    """Without glibc, or where memory is not known, a look does nothing."""
    machine = Machine()
    assert not Heap(lambda: machine.used, None).look()
    assert not Heap(lambda: None, machine.trim).look()
    assert machine.trims == 0


def test_a_service_gives_it_back(serve, bundle_dir, soak_requests, soak_load) -> None:
    """After 12 requests with 2,048 images, or one of 25 megapixels, over 8 connections
    memory is within 48 MiB of what it was, soon.
    """
    assert malloc_trim is not None
    server = serve(bundle_dir).wait_ready()
    small = soak_requests.picture(np.random.default_rng(0), "JPEG", 32)
    buffer = io.BytesIO()
    Image.new("RGB", (5000, 5000), "red").save(buffer, "PNG", compress_level=1)
    huge = soak_requests.raw("/embed", buffer.getvalue(), "PNG")
    parts = soak_requests.multipart(2048 * [small])
    many = soak_requests.post("/embed", soak_requests.CUT, parts)
    kinds = [soak_requests.Kind("huge", huge, weight=0.1), soak_requests.Kind("many", many)]
    soak_load.send(server.url, kinds, count=4, connections=1, seed=0)
    rest = soak_load.held(server.pid).rss
    report = soak_load.send(server.url, kinds, count=12, connections=8, seed=1)
    assert report.answered[200] > 0
    server.wait_until(lambda: soak_load.held(server.pid).rss < rest + 48 * MIB)

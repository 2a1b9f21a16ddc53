"""What large requests took is given back to the system."""

import io
import threading

import numpy as np
from PIL import Image

from handful_service.heap import Heap, malloc_trim, memory_idle

MIB = 2**20


class Machine:
    """Idle memory, of which a trim brings what is free."""

    def __init__(self) -> None:
        self.always, self.free, self.trims = 90 * MIB, 0, 0

    def idle(self) -> int:
        return self.always + self.free

    def trim(self, _: int) -> int:
        self.trims += 1
        self.free = 0
        return 1


def looked(heap: Heap, times: int = 1, *, at_rest: bool = False) -> bool:
    """Whether another look would be worth it."""
    again = False
    for _ in range(times):
        again = heap.look(at_rest=at_rest)
        for thread in threading.enumerate():
            if thread.name == "heap":
                thread.join()
    return again


def test_it_is_trimmed_where_that_brings_something() -> None:
    """Once at first; then only 16 MiB above what the last trim left."""
    machine = Machine()
    heap = Heap(machine.idle, machine.trim)
    looked(heap, 50)
    assert machine.trims == 1
    machine.free = 15 * MIB
    looked(heap, 50)
    assert machine.trims == 1
    machine.free = 400 * MIB
    assert looked(heap), "nobody would look until the next connection"
    assert (machine.trims, machine.idle()) == (2, 90 * MIB)
    assert not looked(heap)


def test_at_rest_little_is_worth_it() -> None:
    """While nobody is connected, one MiB above what the last trim left is given back."""
    machine = Machine()
    heap = Heap(machine.idle, machine.trim)
    looked(heap)
    machine.free = MIB
    assert not looked(heap)
    assert looked(heap, at_rest=True)
    assert (machine.trims, machine.free) == (2, 0)
    assert not looked(heap, 50, at_rest=True)


def test_what_cannot_be_given_back_is_tried_once() -> None:
    """Idle memory that a trim leaves is what there always is from then on."""
    machine = Machine()
    heap = Heap(machine.idle, machine.trim)
    looked(heap)
    machine.always += 500 * MIB
    looked(heap, 50)
    assert machine.trims == 2
    machine.free = 16 * MIB
    looked(heap)
    assert (machine.trims, machine.free) == (3, 0)


def test_memory_in_use_is_not_idle() -> None:
    """200 MiB that are in use count for less than 8; all of it counts once it is freed in pieces
    behind a block that stays.
    """
    assert malloc_trim is not None
    malloc_trim(0)  # what other tests have left would be used first
    before = memory_idle()
    assert before is not None
    blocks = [bytes([1]) * 65_536 for _ in range(3_200)]  # small enough for the heap
    in_use = memory_idle()
    assert in_use is not None
    assert abs(in_use - before) < 8 * MIB
    del blocks[:-1]
    freed = memory_idle()
    assert freed is not None
    assert freed - before > 192 * MIB
    malloc_trim(0)
    trimmed = memory_idle()
    assert trimmed is not None
    assert trimmed - before < 8 * MIB


def test_where_nothing_can_be_done_nothing_is() -> None:
    """Without glibc, or where memory is not known, a look does nothing."""
    machine = Machine()
    assert not Heap(machine.idle, None).look()
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

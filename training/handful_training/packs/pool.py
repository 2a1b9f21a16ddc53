"""Decode chunks in processes; a file that kills its process costs nothing but itself."""

import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing.spawn import get_preparation_data

from handful_training.errors import TrainingError
from handful_training.packs import worker
from handful_training.packs.worker import Chunk, Refusal, Report

WAITING_PER_WORKER = 3  # chunks handed out ahead: the workers never wait, memory stays bounded

CRASHED = "decoder_crashed"


def check_start() -> None:
    """Refuse to go on where no process can be started: in one that is only just starting itself.

    Such a process imports the script that started it. Without the usual guard the script would
    read all images over again in there, and the two would wait for each other for ever.

    Raises:
        RuntimeError: Python's own, which explains the guard.
    """
    get_preparation_data("")


def decode_chunks(chunks: Iterable[Chunk], workers: int) -> Iterator[Report]:
    """Decode `chunks` in `workers` processes; yield reports as they come, in any order.

    When a process dies (killed for memory, or by a fault in a decoder's native code), the chunks
    that were under way are decoded again file by file, each alone in a fresh process. The file
    that kills it once more is refused as `decoder_crashed`.

    Raises:
        TrainingError: the processes cannot even start.
        OSError: pixels cannot be written.
    """
    queue = iter(chunks)
    while True:
        lost: list[Chunk] = []
        yield from _together(queue, workers, lost)
        if not lost:
            return
        yield from _alone(lost)


def _together(queue: Iterator[Chunk], workers: int, lost: list[Chunk]) -> Iterator[Report]:
    """Decode until `queue` is empty or a process dies; then `lost` gets what was under way."""
    pool = _pool(workers)
    waiting: dict[Future[Report], Chunk] = {}
    try:
        while not lost:
            for chunk in islice(queue, WAITING_PER_WORKER * workers - len(waiting)):
                try:
                    waiting[pool.submit(worker.decode_chunk, chunk)] = chunk
                except BrokenProcessPool:
                    lost.append(chunk)
                    break
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                chunk = waiting.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    lost.append(chunk)
        for future, chunk in waiting.items():  # the pool is broken: all of them come to an end
            try:
                yield future.result()
            except BrokenProcessPool:
                lost.append(chunk)
    finally:
        pool.shutdown(cancel_futures=True)


def _alone(chunks: list[Chunk]) -> Iterator[Report]:
    pool = _tried_pool()
    try:
        for single in chain.from_iterable(chunk.singly() for chunk in chunks):
            try:
                yield pool.submit(worker.decode_chunk, single).result()
            except BrokenProcessPool:
                pool.shutdown()
                pool = _tried_pool()
                detail = "the process that decoded it died, also when it decoded nothing else"
                yield Report(1, [Refusal(single.first, CRASHED, detail)])
    finally:
        pool.shutdown(cancel_futures=True)


def _tried_pool() -> ProcessPoolExecutor:
    """Return a pool of one process that has shown to work, so that a later death is the file's."""
    pool = _pool(1)
    try:
        pool.submit(worker.ready).result()
    except BrokenProcessPool as error:
        pool.shutdown()
        raise TrainingError(
            "reading processes die as soon as they start; is there memory left? A script that "
            'calls this must do so under `if __name__ == "__main__":`'
        ) from error
    return pool


def _pool(workers: int) -> ProcessPoolExecutor:
    # Never a plain fork: it would copy the locks of other threads in whatever state they are.
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    context.set_forkserver_preload([worker.__name__])  # imported once, for all processes
    return ProcessPoolExecutor(workers, context, initializer=worker.start_worker)

"""Stopping when asked: Ctrl-C, and the SIGTERM of kubernetes, torchrun and spot machines."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """Somebody asked this process to stop. No Exception: nothing may take it for a failure."""

    def __init__(self, signum: int, where: str = "") -> None:
        self.status = 128 + signum  # as a shell reports it
        super().__init__(f"interrupted{where}; start it again to go on")


class Asked:
    """Whether the process was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signum: int | None = None


@contextmanager
def raising() -> Iterator[None]:
    """Raise `Interrupted` wherever the program is when a signal arrives."""
    with _handling(_raise):
        yield


@contextmanager
def deferring() -> Iterator[Asked]:
    """Note the first signal instead of raising, so that the block can stop where it is safe.

    A second one raises: somebody is in a hurry.
    """
    asked = Asked()

    def note(signum: int, frame: FrameType | None) -> None:
        if asked.signum is not None:
            _raise(signum, frame)
        asked.signum = signum

    with _handling(note):
        yield asked


def _raise(signum: int, _: FrameType | None) -> None:
    raise Interrupted(signum)


@contextmanager
def _handling(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only that one gets signals
        yield
        return
    before = {signum: signal.signal(signum, handler) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)

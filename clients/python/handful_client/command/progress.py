"""How far a command is: a bar on a terminal, lines elsewhere, nothing if it is quick."""

import time
from collections.abc import Callable
from typing import TextIO

_QUICK = 1.0  # seconds
_BAR_EVERY, _LINE_EVERY = 0.1, 10.0
_BAR_WIDTH = 30


class ProgressDisplay:
    """Tells on a stream how many images are done.

    Args:
        stream: where to; a terminal gets a bar.
        total: images in all.
        clock: seconds from any moment on.
    """

    def __init__(
        self, stream: TextIO, total: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._total = total
        self._clock = clock
        self._start = clock()
        self._is_terminal = stream.isatty()
        self._next = self._start + (_QUICK if self._is_terminal else _LINE_EVERY)
        self._width = 0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def update(self, done: int, failed: int) -> None:
        """Tell, if it is time to, how far it is."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + (_BAR_EVERY if self._is_terminal else _LINE_EVERY)
        text = self._text(done, failed)
        if not self._is_terminal:
            self._stream.write(f"handful: {text}\n")
        else:
            filled = _BAR_WIDTH * done // self._total
            bar = "█" * filled + "░" * (_BAR_WIDTH - filled)
            line = f"{bar} {text}"
            self._stream.write(f"\r{line:<{self._width}}")
            self._width = len(line)
        self._stream.flush()

    def clear(self) -> None:
        """Take the bar away."""
        if self._width:
            self._stream.write(f"\r{'':<{self._width}}\r")
            self._stream.flush()
            self._width = 0

    def _text(self, done: int, failed: int) -> str:
        pace = done / max(self.seconds, 1e-9)
        left = (self._total - done) / pace if pace else 0.0
        trouble = f", {failed} failed" if failed else ""
        return (
            f"{done:,} of {self._total:,} images{trouble}, {pace:,.0f}/s, "
            f"{int(left) // 60}:{int(left) % 60:02d} left"
        )

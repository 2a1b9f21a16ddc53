"""Say how far long work has come: a bar on a terminal, plain lines elsewhere, both on stderr.

Work that is over within a second says nothing. stdout is never written to: it belongs to `--json`.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TextIO, TypeVar, overload

from tqdm import tqdm

Item = TypeVar("Item")

QUIET_SECONDS = 1.0
LINE_SECONDS = 10.0


class Display(Protocol):
    """What shows the progress: tqdm's bar, or plain lines."""

    n: float  # units done
    initial: float  # of them, done before this work began

    def update(self, n: int) -> object: ...  # noqa: D102 - tqdm's own method
    def set_postfix_str(self, s: str, refresh: bool) -> object: ...  # noqa: D102, FBT001 - tqdm's
    def close(self) -> object: ...  # noqa: D102 - tqdm's own method


class Progress(Generic[Item]):
    """Work that is under way. Iterate over it, or call `update` inside a `with` block."""

    def __init__(self, items: Iterable[Item], display: Display) -> None:
        self._items = items
        self._display = display

    def __iter__(self) -> Iterator[Item]:
        with self:
            for item in self._items:
                yield item
                self.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._display.close()

    def update(self, n: int = 1) -> None:
        """Count `n` more units as done."""
        self._display.update(n)

    def skip(self, n: int) -> None:
        """Count `n` units as done by earlier work: they do not enter the rate."""
        self._display.n += n
        self._display.initial += n

    def note(self, text: str) -> None:
        """Show `text` (say, the loss) beside the count from now on."""
        self._display.set_postfix_str(text, refresh=False)


class PlainLines:
    """Progress as lines of text, for a log: one after a second, then one every ten, and the last.

    Args:
        total: units of work, or None where unknown.
        desc: what is being done, as "Reading".
        units: what is counted, as "images".
        stream: where the lines go.
        clock: seconds that never run backwards.
    """

    def __init__(
        self, total: int | None, desc: str, units: str, stream: TextIO, clock: Callable[[], float]
    ) -> None:
        self._total = total
        self._desc = desc
        self._units = units
        self._stream = stream
        self._clock = clock
        self.n: float = 0
        self.initial: float = 0
        self._note = ""
        self._started = clock()
        self._due = self._started + QUIET_SECONDS
        self._shown: float = -1

    def update(self, n: int) -> None:
        """Count `n` more units, and write a line if one is due."""
        self.n += n
        if (now := self._clock()) >= self._due:
            self._due = now + LINE_SECONDS
            self._write(now)

    def set_postfix_str(self, s: str, refresh: bool) -> None:  # noqa: FBT001 - tqdm's signature
        """Show `s` beside the count from the next line on."""
        self._note = s
        if refresh:
            self._write(self._clock())

    def close(self) -> None:
        """Write the last line, unless all was quick or the last line already says it."""
        now = self._clock()
        if now - self._started >= QUIET_SECONDS and self._shown != self.n:
            self._write(now)
        self._due = float("inf")

    def _write(self, now: float) -> None:
        self._shown = self.n
        elapsed = max(now - self._started, 1e-9)
        rate = (self.n - self.initial) / elapsed
        parts = [f"{self._desc}: {self.n:,}"]
        if self._total:
            parts[0] += f" of {self._total:,} {self._units} ({self.n / self._total:.0%})"
        else:
            parts[0] += f" {self._units}"
        parts.append(f"{rate:,.1f}/s" if rate < 100 else f"{rate:,.0f}/s")
        if self._total and rate > 0 and self.n < self._total:
            parts.append(f"{_duration((self._total - self.n) / rate)} left")
        else:
            parts.append(f"{_duration(elapsed)} in all")
        if self._note:
            parts.append(self._note)
        self._stream.write(", ".join(parts) + "\n")
        self._stream.flush()


@overload
def progress(
    work: int | None,
    *,
    desc: str,
    unit: str = ...,
    stream: TextIO | None = ...,
    clock: Callable[[], float] = ...,
) -> Progress[None]: ...
@overload
def progress(
    work: Iterable[Item],
    *,
    desc: str,
    unit: str = ...,
    stream: TextIO | None = ...,
    clock: Callable[[], float] = ...,
) -> Progress[Item]: ...
def progress(
    work: Iterable[Item] | int | None,
    *,
    desc: str,
    unit: str = "image",
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Progress[Any]:
    """Show how far `work` has come.

        for batch in progress(batches, desc="Embedding", unit="batch"): ...

        with progress(60_000, desc="Reading") as bar:
            bar.update(128)

    Args:
        work: what to iterate over, or how many units there are, or None where nobody knows.
        desc: what is being done.
        unit: what is counted, in the singular.
        stream: where it is shown; stderr unless given.
        clock: seconds that never run backwards; tests turn it by hand.
    """
    stream = sys.stderr if stream is None else stream
    items: Iterable[Any] = () if work is None or isinstance(work, int) else work
    total = work if work is None or isinstance(work, int) else _length(work)
    units = f"{unit}es" if unit.endswith(("ch", "s", "x")) else f"{unit}s"
    if not stream.isatty():
        return Progress(items, PlainLines(total, desc, units, stream, clock))
    known = _columns(stream) > 0  # where they are not, tqdm would draw nothing
    bar = tqdm(
        total=total, desc=desc, unit=f" {units}", file=stream, delay=QUIET_SECONDS,
        dynamic_ncols=known, ncols=None if known else 80, smoothing=0.1,
    )  # fmt: skip
    return Progress(items, bar)


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 0


def _length(work: Iterable[Item]) -> int | None:
    try:
        return len(work)  # type: ignore[arg-type]
    except TypeError:
        return None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

import contextlib
import io
import os
import time
from collections.abc import Iterator

import pytest

from handful_training.progress import progress


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def slowly(clock: Clock, seconds: float, count: int) -> Iterator[int]:
    for i in range(count):
        clock.now += seconds
        yield i


def lines(clock: Clock, total: int, seconds: float) -> list[str]:
    """Return what `total` steps of `seconds` each write to a file."""
    stream = io.StringIO()
    with progress(total, desc="Reading", stream=stream, clock=clock) as bar:
        for _ in slowly(clock, seconds, total):
            bar.update()
    return stream.getvalue().splitlines()


def test_quick_work_says_nothing(clock: Clock):
    """Work under a second leaves no line."""
    assert lines(clock, 90, 0.01) == []


def test_longer_work_writes_a_line_every_ten_seconds(clock: Clock):
    """One after a second, one every ten, and one at the end; with count, rate and time left."""
    written = lines(clock, 240, 0.125)
    assert len(written) == 4
    assert written[0] == "Reading: 8 of 240 images (3%), 8.0/s, 29 s left"
    assert written[-1] == "Reading: 240 of 240 images (100%), 8.0/s, 30 s in all"


@pytest.mark.parametrize("seconds", [1.0, 5.0, 100.0])
def test_work_in_one_long_step_is_seen(clock: Clock, seconds: float):
    """A single step that takes long still ends with one line, not two."""
    assert len(lines(clock, 1, seconds)) == 1


def test_work_that_fails_still_says_how_far_it_came(clock: Clock):
    """The last line of a run that raises is the count at that moment."""
    stream = io.StringIO()

    def failing() -> Iterator[int]:
        yield from slowly(clock, 0.125, 8)
        raise BrokenPipeError

    def run() -> None:
        for _ in progress(failing(), desc="Reading", stream=stream, clock=clock):
            pass

    with pytest.raises(BrokenPipeError):
        run()
    assert stream.getvalue() == "Reading: 8 images, 8.0/s, 1 s in all\n"


def test_iterating_yields_the_items_and_counts_them(clock: Clock):
    """Wrapped around an iterable it changes nothing but what is shown, also of unknown length."""
    stream = io.StringIO()
    work = progress(slowly(clock, 1, 5), desc="Embedding", unit="batch", stream=stream, clock=clock)
    assert list(work) == [0, 1, 2, 3, 4]
    assert stream.getvalue().splitlines()[-1] == "Embedding: 5 batches, 1.0/s, 5 s in all"


def screen(handle: int) -> str:
    """Return all that was written to a terminal that is closed by now."""
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that there is no more
        while data := os.read(handle, 4096):
            shown += data
    os.close(handle)
    return shown.decode()


@pytest.mark.parametrize("columns", [100, 0])
def test_on_a_terminal_there_is_a_bar_after_a_second(columns: int):
    """A terminal gets tqdm's bar, redrawn in place; quick work draws nothing there either.

    Some terminals, as that of `docker run -t` in a pipeline, say that they have no columns.
    """
    termios = pytest.importorskip("termios", reason="this system has no terminals of this kind")
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    with os.fdopen(terminal, "w") as stream:
        with progress(5, desc="Quick", stream=stream) as bar:
            bar.update(5)
        with progress(100, desc="Slow", stream=stream) as bar:
            for _ in range(12):
                time.sleep(0.1)
                bar.note("loss 1.5")
                bar.update(5)
    shown = screen(main)
    assert "Quick" not in shown
    assert "Slow:  60%" in shown
    assert "60/100" in shown
    assert "loss 1.5" in shown
    assert "\r" in shown

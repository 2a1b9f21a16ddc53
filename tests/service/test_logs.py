"""Log lines cannot be broken or forged by what comes from outside."""

import asyncio
import json
import logging
import os
import tempfile

from hypothesis import given
from hypothesis import strategies as st

from handful_service.logs import JsonLines, LinesTogether, PlainLines


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("n", logging.INFO, "f", 1, "got %s", (text,), None)


@given(st.text())
def test_one_event_is_one_line(text: str) -> None:
    """Whatever a message holds, it stays one line of printable characters; JSON gives it back."""
    plain = PlainLines().format(record(text))
    assert plain.isprintable()
    assert len(plain.splitlines()) == 1
    line = JsonLines().format(record(text))
    assert len(line.splitlines()) == 1
    assert json.loads(line)["message"] == f"got {text}"


def test_lines_of_an_event_loop_are_written_together_and_all() -> None:
    """What a loop says is written a moment later in one piece, a warning at once with all before
    it, and nothing is lost at the end.
    """
    with tempfile.TemporaryFile("w+") as file:
        handler = LinesTogether(file, PlainLines())
        size = lambda: os.fstat(file.fileno()).st_size  # noqa: E731

        async def say() -> None:
            handler.setFormatter(logging.Formatter())
            handler.emit(record("one"))
            handler.emit(record("two"))
            assert size() == 0
            await asyncio.sleep(0.5)
            assert size() == len("got one\ngot two\n")
            handler.emit(record("three"))
            warning = record("four")
            warning.levelno = logging.WARNING
            handler.emit(warning)
            assert size() == len("got one\ngot two\ngot three\ngot four\n")
            handler.emit(record("five"))

        asyncio.run(say())
        handler.flush()
        file.seek(0)
        lines = file.read().splitlines()
    assert lines == [f"got {word}" for word in ("one", "two", "three", "four", "five")]


def test_forged_line_shows_as_what_it_is() -> None:
    """A line break in a field is visible as an escape."""
    assert r"a\r\nb" in PlainLines().format(record("a\r\nb"))

"""Log lines cannot be broken or forged by what comes from outside."""

import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from handful_service.logs import JsonLines, PlainLines


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


def test_forged_line_shows_as_what_it_is() -> None:
    """A line break in a field is visible as an escape."""
    assert r"a\r\nb" in PlainLines().format(record("a\r\nb"))

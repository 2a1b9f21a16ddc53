"""One event, one line, on stderr: plain for eyes or JSON for machines.

What came from outside cannot break a line or forge one: control characters are escaped. No body,
file name, address or key is ever logged.
"""

import asyncio
import functools
import json
import logging
import sys
import time
from contextlib import nullcontext
from typing import Literal, TextIO

# Our own lines say the same, once instead of at each look at a registry that is away.
_LIBRARIES = {"uvicorn": "WARNING", "uvicorn.error": "WARNING", "urllib3": "ERROR"}
_EXTRA = ("request_id", "milliseconds", "images")

_TOGETHER = 0.1  # seconds


def configure(style: Literal["plain", "json"], level: str) -> None:
    """Let all loggers of this process write to stderr, one line an event.

    Args:
        style: `plain` or `json`.
        level: least level, in lower case.
    """
    handler = LinesTogether(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else PlainLines())
    # Nobody reads who logged; finding it out takes longer than the rest of a line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]  # from Python 3.12
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name, least in _LIBRARIES.items():
        logging.getLogger(name).setLevel(least)


class LinesTogether(logging.Handler):
    """Writes what an event loop says within 0.1 s at once: a write per request costs too much.

    Warnings, and what other threads say, take what waits along and are written at once.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # it will write what waits

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record`, soon or now."""
        try:
            self._lines.append(self.format(record) + "\n")
            loop = asyncio.get_running_loop() if record.levelno < logging.WARNING else None
        except RuntimeError:  # no event loop in this thread
            loop = None
        except Exception:  # noqa: BLE001 - a line that cannot be written fails no request
            self.handleError(record)
            return
        if loop is None:
            self.flush()
        elif self._loop is not loop:
            self._loop = loop
            loop.call_later(_TOGETHER, self.flush)

    def flush(self) -> None:
        """Write what waits."""
        with self.lock or nullcontext():
            lines, self._lines, self._loop = self._lines, [], None
            try:
                self._stream.write("".join(lines))
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more, or the stream is closed
                return


class PlainLines(logging.Formatter):
    """`time level logger: message key=value …`, control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `record` as one line."""
        extra = "".join(f" {key}={value}" for key, value in _extra(record).items())
        text = record.getMessage() + extra
        if record.exc_info:
            text += " | " + self.formatException(record.exc_info)
        return f"{_time(record)} {record.levelname.lower()} {record.name}: {escape(text)}"


class JsonLines(logging.Formatter):
    """One JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `record` as one line."""
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)  # escapes control characters by itself


def escape(text: str) -> str:
    """Return `text` without control characters and line separators: each as its escape."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: getattr(record, key) for key in _EXTRA if hasattr(record, key)}


def _time(record: logging.LogRecord) -> str:
    return f"{_second(int(record.created))}.{int(record.msecs):03d}Z"


@functools.lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))

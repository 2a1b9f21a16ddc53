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
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Literal, TextIO

# Our own lines say the same, once instead of at each look at a registry that is away, and in one
# line a request, whatever may be wrong with its body.
_LIBRARIES = {
    "uvicorn": "WARNING",
    "uvicorn.error": "WARNING",
    "urllib3": "ERROR",
    "python_multipart": "ERROR",
}
_EXTRA = ("request_id", "milliseconds", "images")
_TRACE = "trace"
_TOGETHER = 0.1  # seconds


def configure(style: Literal["plain", "json"], level: str) -> None:
    """Let all loggers of this process write to stderr, one line an event.

    Args:
        style: `plain` or `json`.
        level: least level, in lower case.
    """
    handler = LinesTogether(sys.stderr, JsonLines() if style == "json" else PlainLines())
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

    def __init__(self, stream: TextIO, lines: "Lines") -> None:
        super().__init__()
        self.setFormatter(lines)
        self._line = lines.line
        self._stream = stream
        self._lines: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # it will write what waits

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record`, soon or now."""
        try:
            self._lines.append(self.format(record))
            loop = asyncio.get_running_loop() if record.levelno < logging.WARNING else None
        except RuntimeError:  # no event loop in this thread
            loop = None
        except Exception:  # noqa: BLE001 - a line that cannot be written fails no request
            self.handleError(record)
            return
        if loop is None:
            self.flush()
        elif self._loop is not loop:
            self._flush_soon(loop)

    def say(self, level: str, name: str, message: str, extra: Mapping[str, object]) -> None:
        """Write a line soon, from an event loop: a third of the time of a record."""
        self._lines.append(self._line(time.time(), level, name, message, extra))
        if self._loop is None:
            self._flush_soon(asyncio.get_running_loop())

    def flush(self) -> None:
        """Write what waits."""
        with self.lock or nullcontext():
            lines, self._lines, self._loop = self._lines, [], None
            try:
                self._stream.write("\n".join([*lines, ""]))
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads any more, or the stream is closed
                return

    def _flush_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        loop.call_later(_TOGETHER, self.flush)


class Lines(logging.Formatter):
    """Writes each event as one line."""

    @abstractmethod
    def line(
        self, created: float, level: str, name: str, message: str, extra: Mapping[str, object]
    ) -> str:
        """Return what was said by logger `name` at `created`, in seconds since 1970."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `record` as one line."""
        known = record.__dict__
        extra = {key: known[key] for key in _EXTRA if key in known}
        if record.exc_info:
            extra[_TRACE] = self.formatException(record.exc_info)
        level = record.levelname.lower()
        return self.line(record.created, level, record.name, record.getMessage(), extra)


class PlainLines(Lines):
    """`time level logger: message key=value …`, control characters escaped."""

    def line(
        self, created: float, level: str, name: str, message: str, extra: Mapping[str, object]
    ) -> str:
        """Return one line."""
        for key, value in extra.items():
            message += f" | {value}" if key == _TRACE else f" {key}={value}"
        return f"{_time(created)} {level} {name}: {escape(message)}"


class JsonLines(Lines):
    """One JSON object."""

    def line(
        self, created: float, level: str, name: str, message: str, extra: Mapping[str, object]
    ) -> str:
        """Return one line."""
        known = {"time": _time(created), "level": level, "logger": name, "message": message}
        return _json({**known, **extra})  # escapes control characters by itself


_json = json.JSONEncoder(default=str).encode


class AccessLog:
    """Says which requests were answered.

    Not by `logging.Logger.log`, which looks for the line of code that it was called from.
    """

    def __init__(self, name: str) -> None:
        self._log = logging.getLogger(name)
        handlers = logging.getLogger().handlers
        self._together = next((one for one in handlers if isinstance(one, LinesTogether)), None)

    def answered(self, level: int, message: str, **extra: object) -> None:
        """Write one line; `extra` are its keys and values."""
        if not self._log.isEnabledFor(level):
            return
        if self._together is None:
            self._log.log(level, message, extra=extra)
        else:
            name = logging.getLevelName(level).lower()
            self._together.say(name, self._log.name, message, extra)


def escape(text: str) -> str:
    """Return `text` without control characters and line separators: each as its escape."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _time(created: float) -> str:
    return f"{_second(int(created))}.{int(created % 1 * 1000):03d}Z"


@functools.lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))

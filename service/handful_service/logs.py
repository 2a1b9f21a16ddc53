"""One event, one line, on stderr: plain for eyes or JSON for machines.

What came from outside cannot break a line or forge one: control characters are escaped. No body,
file name, address or key is ever logged.
"""

import json
import logging
import sys
import time
from typing import Literal

# Our own lines say the same, once instead of at each look at a registry that is away.
_LIBRARIES = {"uvicorn": "WARNING", "uvicorn.error": "WARNING", "urllib3": "ERROR"}
_EXTRA = ("request_id", "milliseconds", "images")


def configure(style: Literal["plain", "json"], level: str) -> None:
    """Let all loggers of this process write to stderr, one line an event.

    Args:
        style: `plain` or `json`.
        level: least level, in lower case.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else PlainLines())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name, least in _LIBRARIES.items():
        logging.getLogger(name).setLevel(least)


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
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: getattr(record, key) for key in _EXTRA if hasattr(record, key)}


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"

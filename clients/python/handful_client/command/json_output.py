"""Results inside the one JSON object that `--json` prints when no file takes them."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from handful_client.command.records import Record

_IN_MEMORY = 8 * 1024 * 1024
_PIECE = 1 << 16


class JsonOutput:
    """Keeps records on the disk until all are known, so that no half object is ever printed."""

    def __init__(self, spool: TextIO) -> None:
        self._spool = spool
        self._separator = ""

    def write(self, record: Record) -> None:
        """Take one record."""
        self._spool.write(self._separator + json.dumps(record.as_dict(), allow_nan=False))
        self._separator = ", "

    def print(self, summary: Mapping[str, Any], stream: TextIO) -> None:
        """Print the summary with the results as its last member, in one line."""
        stream.write(json.dumps(summary, allow_nan=False)[:-1] + ', "results": [')
        self._spool.seek(0)
        while piece := self._spool.read(_PIECE):
            stream.write(piece)
        stream.write("]}\n")


@contextmanager
def json_line() -> Iterator[JsonOutput]:
    """Collect results for one line of JSON."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8") as spool:
        yield JsonOutput(spool)  # type: ignore[arg-type]  # it is a text stream by its mode

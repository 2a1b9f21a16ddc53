"""One large file, on disk or behind a URL: its size, what shows that it changed, and its bytes."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Self, cast
from urllib.parse import urlsplit

from handful_training.errors import InputError
from handful_training.sources import store
from handful_training.sources.folder import FileMissing, FileUnreadable
from handful_training.sources.store import StoreUnreachable, is_url, shown

FIRST_BYTES = 64 * 1024
MOST_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class Place:
    """A file.

    Attributes:
        location: an absolute path, or a URL.
        size: its bytes.
        token: changes when the file does.
    """

    location: str
    size: int
    token: str

    @classmethod
    def find(cls, location: str) -> Self:
        """Look at `location`.

        Raises:
            InputError: there is no such file, or none that can be read.
        """
        if not is_url(location):
            path = Path(location).absolute()
            try:
                found = path.stat()
            except OSError as error:
                raise InputError(f"{path} cannot be read: {error.strerror}") from error
            token = f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"
            return cls(str(path), found.st_size, token)
        place, path_there = store.split(location)
        with as_input(location):
            entry = store.tried(lambda: place.head(path_there), location)
        return cls(location, entry.size, entry.token)

    @property
    def name(self) -> str:
        """Its name without the folder."""
        path = urlsplit(self.location).path if is_url(self.location) else self.location
        return PurePosixPath(path.replace(os.sep, "/")).name

    @property
    def shown(self) -> str:
        """Where it is, without credentials."""
        return shown(self.location)

    def open(self) -> IO[bytes]:
        """Open it for reading at any position.

        Raises:
            OSError: it cannot be opened.
            InputError: its server does not say how long it is.
        """
        if not is_url(self.location):
            return Path(self.location).open("rb")
        if self.size < 0:
            raise InputError(f"{self.shown}: the server does not say its size; fetch it first")
        return cast("IO[bytes]", _Ranges(self))


class _Ranges(io.BufferedIOBase):
    """A file behind a URL, read in ranges that grow for as long as they follow one another."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._store, self._path = store.split(place.location)
        self._at = 0
        self._held = b""  # what was read last
        self._start = 0  # where that begins
        self._window = FIRST_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._place.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        rest = max(0, self._place.size - self._at)
        size = rest if size is None or size < 0 else min(size, rest)
        pieces = []
        while size:
            piece = self._some(size)
            pieces.append(piece)
            size -= len(piece)
            self._at += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.read(FIRST_BYTES if size is None or size < 0 else size)

    def _some(self, size: int) -> bytes:
        end = self._start + len(self._held)
        if not self._start <= self._at < end:
            near = self._held and end <= self._at <= end + self._window
            self._window = min(2 * self._window, MOST_BYTES) if near else FIRST_BYTES
            start, stop = self._at, min(self._at + max(size, self._window), self._place.size)
            url = self._place.location
            self._held = store.tried(lambda: self._store.read(self._path, start, stop), url)
            self._start = start
            if len(self._held) != stop - start:
                raise FileUnreadable(f"{self._place.shown} has changed while it was read")
        skip = self._at - self._start
        return self._held[skip : skip + size]


@contextmanager
def as_input(url: str) -> Iterator[None]:
    """Say as bad input that IMAGES itself cannot be had."""
    try:
        yield
    except (FileMissing, FileUnreadable, StoreUnreachable) as error:
        raise store.refused(error, url) from error

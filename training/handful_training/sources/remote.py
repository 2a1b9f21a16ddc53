"""Image files in a store: all below a prefix, or those that a table lists."""

import posixpath
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import ClassVar, Self

from handful_bundle.errors import ImageError, ImageTooLarge
from handful_training.errors import InputError
from handful_training.progress import progress
from handful_training.sources import store
from handful_training.sources.folder import MAX_FILE_BYTES, SUFFIXES, FileMissing, FileUnreadable
from handful_training.sources.parquet import column_labels, opened
from handful_training.sources.parquet_paths import table_paths
from handful_training.sources.place import Place
from handful_training.sources.sendable import as_sendable
from handful_training.sources.store import Entry, Store, shown

IN_FLIGHT = 16  # files that one process asks for at once: the store's latency hides
TOKEN_BYTES = 16
MISSING = b"\0" * TOKEN_BYTES


@dataclass(frozen=True)
class RemoteSource:
    """Files below a URL."""

    url: str  # of the folder that keys are relative to
    keys: Sequence[str]
    tokens: bytes  # 16 bytes for each file
    summary: str = ""
    table: Place | None = None
    kind: ClassVar[str] = "remote"

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, i: int) -> bytes:
        """Return the bytes of file `i`.

        Raises:
            FileMissing: it is not there.
            FileUnreadable: access is denied.
            ImageTooLarge: it has more than `MAX_FILE_BYTES`.
            ImageError: it is a TIFF of a kind that is not read.
            StoreUnreachable: the store does not answer.
        """
        files, root = store.split(self.url)
        path = f"{root}/{self.keys[i]}" if root else self.keys[i]
        data = store.tried(lambda: files.read(path, None, None), self.url)
        if len(data) > MAX_FILE_BYTES:
            raise ImageTooLarge(
                f"{len(data):,} bytes, allowed are {MAX_FILE_BYTES:,}; shrink the image"
            )
        return as_sendable(data)

    def read_each(self, rows: Iterable[int]) -> Iterator[bytes | ImageError]:
        """Yield the files of `rows` in that order, several being fetched at once.

        Raises:
            StoreUnreachable: the store does not answer.
        """
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            waiting: deque[Future[bytes | ImageError]] = deque()
            try:
                for row in rows:
                    waiting.append(threads.submit(self._attempt, row))
                    if len(waiting) >= IN_FLIGHT:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _attempt(self, row: int) -> bytes | ImageError:
        try:
            return self.read(row)
        except ImageError as error:
            return error

    def stat_token(self, i: int) -> str:
        """Return a digest of what the store says of file `i`: size, and ETag or time."""
        return self.tokens[TOKEN_BYTES * i : TOKEN_BYTES * (i + 1)].hex()

    def cut(self, start: int, stop: int) -> Self:
        """Return files `start` to `stop`."""
        return replace(self, keys=self.keys[start:stop], tokens=b"", summary="", table=None)

    def labels(self, column: str | None) -> Iterator[tuple[int, str]]:
        """Yield (row, label) from a column of the Parquet file that lists the images."""
        if self.table is None:
            raise InputError(f"{shown(self.url)} has no column of labels; a Parquet file has")
        with opened(self.table) as table:
            paths = [relative(path, self.url) for path in table_paths(self.table)]
            row_of = {key: row for row, key in enumerate(self.keys)}
            for line, label in column_labels(table, column, self.table):
                yield row_of[paths[line]], label


def search(url: str) -> tuple[RemoteSource | None, list[str], str]:
    """Look through all files below `url`.

    Returns:
        Its images, or None if there is none; the names of other files, at most 10,000, relative
        to `url`; and in words what else there is.

    Raises:
        InputError: it cannot be listed.
    """
    found = _Found(url)
    for entry, key in _below(url):
        found.add(entry, key)
    return found.source(), found.others, found.left_aside()


def look_up(url: str, paths: Sequence[str]) -> bytes:
    """Return the tokens of the files `paths` below `url`, in that order; zeros where missing."""
    files, root = store.split(url)
    wanted = {path: i for i, path in enumerate(paths)}
    tokens = bytearray(TOKEN_BYTES * len(paths))
    try:
        for entry, key in _below(url):
            if (i := wanted.pop(key, None)) is not None:
                tokens[TOKEN_BYTES * i : TOKEN_BYTES * (i + 1)] = _token(entry)
    except InputError:  # not every server lists, and not everyone may: ask for each
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            asked = threads.map(lambda path: _head(files, f"{root}/{path}", url), wanted)
            for i, token in zip(wanted.values(), progress(asked, desc="Looking up"), strict=True):
                tokens[TOKEN_BYTES * i : TOKEN_BYTES * (i + 1)] = token
    return bytes(tokens)


def relative(path: str, url: str) -> str:
    """Return what a table calls `path` as a key below `url`, the folder that holds the table.

    Raises:
        InputError: it leads out of there.
    """
    inside = path.removeprefix(url.rstrip("/") + "/")
    key = posixpath.normpath(inside)
    if store.is_url(inside) or key.startswith(("/", "../")) or key in {"..", "."}:
        raise InputError(f"{shown(path)} does not lie below {shown(url)}, where the table is")
    return key


class _Found:
    """What a search finds."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._images: dict[str, bytes] = {}
        self._aside: Counter[str] = Counter()
        self.others: list[str] = []

    def add(self, entry: Entry, key: str) -> None:
        if any(part.startswith(".") for part in key.split("/")) or key.endswith("/"):
            return
        suffix = posixpath.splitext(key)[1].lower()
        if suffix in SUFFIXES:
            self._images[key] = _token(entry)
            return
        self._aside[suffix or "no suffix"] += 1
        if len(self.others) < 10_000:
            self.others.append(key)

    def source(self) -> RemoteSource | None:
        if not self._images:
            return None
        keys = sorted(self._images)
        summary = f"{len(keys):,} images under {shown(self._url)}"
        if self._aside:
            summary += f"; left aside {self.left_aside()}"
        return RemoteSource(self._url, keys, b"".join(map(self._images.__getitem__, keys)), summary)

    def left_aside(self) -> str:
        listed = ", ".join(f"{n:,} {suffix}" for suffix, n in self._aside.most_common(5))
        return f"{self._aside.total():,} other files ({listed})" if listed else "nothing"


def _below(url: str) -> Iterator[tuple[Entry, str]]:
    """Yield every file below `url`, with its path relative to it."""
    files, root = store.split(url)
    prefix = f"{root}/" if root else ""
    try:
        for entry in files.list(root):
            yield entry, entry.path.removeprefix(prefix)
    except Exception as error:
        if isinstance(error, InputError):
            raise
        raise store.refused(store.translated(error, url), url) from None


def _head(files: Store, path: str, url: str) -> bytes:
    try:
        return _token(store.tried(lambda: files.head(path), url))
    except (FileMissing, FileUnreadable):
        return MISSING  # it is said when the file is read


def _token(entry: Entry) -> bytes:
    return blake2b(entry.token.encode(), digest_size=TOKEN_BYTES).digest()

"""Any other URL that fsspec knows: http and https, and what further packages bring (hf, sftp …)."""

from collections.abc import Iterator, Mapping
from typing import Any

import fsspec

from handful_training.errors import InputError
from handful_training.sources.store import Entry

TOKEN_FIELDS = ("ETag", "etag", "mtime", "created", "last_modified", "LastModified", "hash")


class FsspecStore:
    """One kind of file system.

    Raises:
        InputError: fsspec knows no such protocol, or lacks a package for it.
    """

    def __init__(self, protocol: str) -> None:
        try:
            kind = fsspec.get_filesystem_class(protocol)
        except (ValueError, ImportError) as error:
            raise InputError(f"{protocol}:// cannot be read: {error}") from error
        # Listings are used once; kept, they would grow with the number of files.
        self._files = kind(use_listings_cache=False)

    def path_of(self, url: str) -> str:
        """Return the file system's own name of a file or folder."""
        return str(self._files._strip_protocol(url))  # noqa: SLF001 - fsspec's own contract for it

    def list(self, root: str) -> Iterator[Entry]:
        """Yield every file under `root`, folder by folder."""
        if "http" in self._files.protocol:
            raise InputError("a web server cannot list its files; name a table or a tar instead")
        for _, _, files in self._files.walk(root, detail=True, on_error="raise"):
            for found in files.values():
                yield _entry(found["name"], found)

    def head(self, path: str) -> Entry:
        """Return one file."""
        found = self._files.info(path)
        if found.get("type") == "directory":
            raise IsADirectoryError(path)
        return _entry(path, found)

    def read(self, path: str, start: int | None, stop: int | None) -> bytes:
        """Return the bytes of a file, all or from `start` up to `stop`."""
        data: bytes = self._files.cat_file(path, start=start, end=stop)
        if start is not None and stop is not None and len(data) > stop - start:
            raise InputError("the server sends whole files only; fetch this one and name the copy")
        return data


def _entry(path: str, found: Mapping[str, Any]) -> Entry:
    size = found.get("size")
    size = -1 if size is None else int(size)
    tags = [f"{found[name]}" for name in TOKEN_FIELDS if found.get(name) is not None]
    return Entry(path, size, ":".join([str(size), *tags]))

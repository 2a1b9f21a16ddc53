"""Image files on disk, found by searching a folder to its leaves or listed by a CSV."""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

from handful_bundle.errors import ImageError, ImageTooLarge
from handful_training.errors import InputError
from handful_training.sources.sendable import as_sendable
from handful_training.sources.table import read_table

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"})
OWN = frozenset({"handful-work", "mlruns", "mlartifacts"})  # our plots are nobody's images
MAX_FILE_BYTES = 256 * 1024**2


class FileMissing(ImageError):
    """There is no such file."""

    code = "file_missing"


class FileUnreadable(ImageError):
    """There is such a file, but it cannot be read."""

    code = "file_unreadable"


@dataclass(frozen=True)
class FileSource:
    """Image files under one folder, or anywhere by absolute path."""

    root: str  # absolute
    keys: Sequence[str]
    summary: str = field(default="", compare=False)
    kind: ClassVar[str] = "files"

    @classmethod
    def scan(cls, folder: Path) -> Self:
        """Search `folder` to its leaves. Links are followed once.

        Skipped are hidden files, and what our own runs write, in case they run in `folder`.

        Raises:
            InputError: it holds no image.
        """
        root = os.path.abspath(folder)  # noqa: PTH100 - resolve() would follow links
        found = _Scan()
        found.search(root)
        if not found.keys:
            raise InputError(
                f"no image under {folder}: found {found.left_aside()}. "
                f"Images are files that end in {', '.join(sorted(SUFFIXES))}"
            )
        summary = f"{len(found.keys):,} images in {found.folders:,} folders under {folder}"
        if found.others or found.closed:
            summary += f"; left aside {found.left_aside()}"
        return cls(root, sorted(found.keys), summary)

    @classmethod
    def listed(cls, table: Path) -> Self:
        """Take the files named in the `path` column, relative to the folder that holds `table`.

        Raises:
            InputError: not such a table, or an empty one.
        """
        root = os.path.dirname(os.path.abspath(table))  # noqa: PTH100, PTH120 - as in `scan`
        keys: dict[str, None] = {}  # in the order of the table, each once
        rows = 0
        for line, (path,) in read_table(table, ["path"]):
            if not path:
                raise InputError(f"{table}, line {line}: the path is empty")
            keys[normalise(path, root)] = None
            rows += 1
        if not keys:
            raise InputError(f"{table} lists no image; write one path a line below the header")
        summary = f"{len(keys):,} images listed in {table}"
        if rows > len(keys):
            summary += f"; {rows - len(keys):,} lines name a file again and count once"
        return cls(root, list(keys), summary)

    def __len__(self) -> int:
        return len(self.keys)

    def path(self, i: int) -> str:
        """Return the absolute path of image `i`."""
        return os.path.join(self.root, self.keys[i])  # noqa: PTH118 - an absolute key wins; 240,000 of them

    def read(self, i: int) -> bytes:
        """Return the bytes of file `i`, as a service would get them: a TIFF comes as a PNG.

        Raises:
            FileMissing: it is not there.
            FileUnreadable: it cannot be opened, or is no regular file.
            ImageTooLarge: it has more than `MAX_FILE_BYTES`.
            ImageError: it is a TIFF of a kind that is not read.
        """
        try:
            # Not blocking: a pipe that is called x.jpg must not stop the run for ever.
            handle = os.open(self.path(i), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
            try:
                data = _regular(handle)
            finally:
                os.close(handle)
        except FileNotFoundError as error:
            raise FileMissing("no such file") from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise FileUnreadable(getattr(error, "strerror", None) or str(error)) from error
        return as_sendable(data)

    def stat_token(self, i: int) -> str:
        """Return size and times of file `i`.

        The change time is among them: it cannot be set back, so a file that was replaced under its
        old size and modification time is noticed. The price is packing again after a `cp -p`.
        """
        try:
            found = os.stat(self.path(i))  # noqa: PTH116 - 240,000 of them
        except (OSError, ValueError):
            return "missing"
        return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"

    def cut(self, start: int, stop: int) -> Self:
        """Return files `start` to `stop`."""
        return replace(self, keys=self.keys[start:stop], summary="")


def _regular(handle: int) -> bytes:
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        raise FileUnreadable("not a regular file")
    if found.st_size > MAX_FILE_BYTES:
        raise ImageTooLarge(
            f"{found.st_size:,} bytes, allowed are {MAX_FILE_BYTES:,}; shrink the image"
        )
    return os.read(handle, found.st_size)


def normalise(path: str, root: str) -> str:
    """Return `path`, which may be relative to `root`, as the key that `FileSource` gives it."""
    path = os.path.normpath(os.path.join(root, path))  # noqa: PTH118 - pathlib keeps "a/../b"
    inside = path.removeprefix(root.rstrip(os.sep) + os.sep)
    return inside.replace(os.sep, "/")


class _Scan:
    """What a search finds: keys, and what it leaves aside."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.folders = 0
        self.others: Counter[str] = Counter()  # by suffix
        self.closed: list[str] = []  # folders that cannot be listed
        self._visited: set[tuple[int, int]] = set()  # device, inode

    def search(self, root: str) -> None:
        # Real folders first: an image that is also reachable by a link keeps its real name.
        links = [""]
        while links:
            folders = [links.pop(0)]
            while folders:
                prefix = folders.pop()
                real, linked = self._list(root, prefix)
                folders += real
                links += linked

    def _list(self, root: str, prefix: str) -> tuple[list[str], list[str]]:
        """List one folder; return the folders and the links to folders in it, each with a slash."""
        real: list[str] = []
        linked: list[str] = []
        folder = os.path.join(root, prefix)  # noqa: PTH118 - as in `path`
        try:
            found = os.stat(folder)  # noqa: PTH116 - as in `path`
            if (found.st_dev, found.st_ino) in self._visited:
                return real, linked
            self._visited.add((found.st_dev, found.st_ino))
            with os.scandir(folder) as entries:
                known = len(self.keys)
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith(".") or entry.name in OWN:
                        continue
                    if entry.is_dir():
                        (linked if entry.is_symlink() else real).append(f"{prefix}{entry.name}/")
                    else:
                        self._add(entry, prefix)
                self.folders += len(self.keys) > known
        except OSError as error:
            self.closed.append(f"{prefix or root} ({error.strerror})")
        return real, linked

    def _add(self, entry: "os.DirEntry[str]", prefix: str) -> None:
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - 240,000 of them
        # A broken link is kept: it is reported as an image that is missing.
        if suffix in SUFFIXES and (entry.is_file() or entry.is_symlink()):
            self.keys.append(prefix + entry.name)
        else:
            self.others[suffix or "no suffix"] += 1

    def left_aside(self) -> str:
        """Say what else is there."""
        parts = [_count(self.others)]
        if self.closed:
            names = ", ".join(self.closed[:3])
            parts.append(f"{len(self.closed)} folders that cannot be listed: {names}")
        return "; ".join(part for part in parts if part) or "nothing"


def _count(suffixes: Counter[str]) -> str:
    if not suffixes:
        return ""
    common: Iterable[tuple[str, int]] = suffixes.most_common(5)
    listed = ", ".join(f"{n:,} {suffix}" for suffix, n in common)
    return f"{suffixes.total():,} other files ({listed}{', …' if len(suffixes) > 5 else ''})"

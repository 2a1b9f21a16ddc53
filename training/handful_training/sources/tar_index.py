"""What a tar holds and where: found in one pass over its headers, kept for the next run.

Nothing is ever unpacked to disk. Names are only names: links, devices, sparse files, absolute
names and names with `..` are left aside.
"""

import gzip
import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

from handful_training.errors import InputError, TrainingError
from handful_training.sources.folder import SUFFIXES, FileUnreadable
from handful_training.sources.place import Place
from handful_training.sources.tar_headers import Header, TarDamaged, read_headers

FORMAT = 1
NOTE_SUFFIXES = frozenset({".cls", ".txt", ".json"})
MAX_NOTE_BYTES = 64 * 1024


class Member(NamedTuple):
    """An image in a tar, a small text beside one, or (without a name) something left aside."""

    name: str
    offset: int  # of its bytes in the tar, unpacked if that is a .gz
    size: int
    note: str | None  # the text; None for an image; for what is left aside its kind


def members(place: Place, cache: Path | None) -> Iterator[Member]:
    """Yield what `place` holds, in its order.

    Args:
        place: a tar or tar.gz.
        cache: a folder for the list, so that an unchanged tar is gone through once; or None.

    Raises:
        InputError: it is no tar, or is damaged.
        TrainingError: the list cannot be written.
    """
    if cache is None:
        yield from scan(place)
        return
    name = hashlib.sha256(f"{place.shown}\0{place.token}".encode(errors="surrogateescape"))
    known = cache / f"{name.hexdigest()[:32]}.jsonl"
    if not _is_whole(known):
        try:
            _write(known, scan(place))
        except OSError as error:
            raise TrainingError(
                f"the list of what {place.shown} holds cannot be written to {cache}: "
                f"{error.strerror or error}; make room there or set HANDFUL_WORK to another folder"
            ) from error
    with known.open(encoding="ascii") as lines:
        for line in lines:
            fields = json.loads(line)
            if isinstance(fields, list):
                yield Member(*fields)


def scan(place: Place) -> Iterator[Member]:
    """Go through `place` from its start to its end, as `members` does without a cache."""
    with unpacked(place) as file:
        try:
            for header in read_headers(file):
                if member := _member(header, file):
                    yield member
        except TarDamaged as error:
            raise InputError(f"{place.shown} is damaged or no tar: {error}; {REMEDY}") from error
        try:
            while file.read(1 << 20):  # only at its end does gzip compare the checksum
                pass
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"{place.shown} is damaged ({error}); {REMEDY}") from error


REMEDY = "fetch it again or leave it out"


@contextmanager
def unpacked(place: Place) -> Iterator[IO[bytes]]:
    """Open a tar, through gzip where it begins like that."""
    try:
        with closing(open_unpacked(place)) as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{place.shown} is damaged ({error}); {REMEDY}") from error
    except FileUnreadable as error:
        raise InputError(f"{place.shown}: {error}; run the command again") from error
    except OSError as error:
        raise InputError(f"{place.shown} cannot be read: {error.strerror}") from error


def open_unpacked(place: Place) -> IO[bytes]:
    """Open a tar, through gzip where it begins like that. The caller closes it."""
    raw = place.open()
    packed = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    return cast("IO[bytes]", _Gzip(raw)) if packed else raw


class _Gzip(gzip.GzipFile):
    """A gzip reader that closes the file below it."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        super().__init__(fileobj=raw)

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._raw.close()


def _member(found: Header, file: IO[bytes]) -> Member | None:
    """Return what a header stands for, None where that is not worth a word."""
    name = _plain(found.name)
    last = (name or "").rpartition("/")[2]
    if found.kind == "folder" or last.startswith("."):  # hidden, as in a folder
        return None
    if found.kind == "special" or name is None:
        return Member("", 0, 0, "unsafe names" if name is None else "links and special files")
    suffix = os.path.splitext(last)[1].lower()  # noqa: PTH122 - 240,000 of them
    if suffix in SUFFIXES:
        return Member(name, found.offset, found.size, None)
    if suffix in NOTE_SUFFIXES and found.size <= MAX_NOTE_BYTES:
        file.seek(found.offset)
        text = file.read(found.size).decode("utf-8", errors="replace")
        return Member(name, found.offset, found.size, text)
    return Member("", 0, 0, suffix or "no suffix")


def _plain(name: str) -> str | None:
    """Return `name` without `./`; None where it is absolute or has a `..`."""
    if "/" not in name and name != "..":
        return name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or not parts:
        return None
    return "/".join(parts)


def _write(path: Path, found: Iterable[Member]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        with partial.open("w", encoding="ascii") as file:
            file.writelines(json.dumps(list(member)) + "\n" for member in found)
            file.write(json.dumps({"format": FORMAT}) + "\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    """Tell whether a list was written to its end, by this format."""
    end = (json.dumps({"format": FORMAT}) + "\n").encode()
    try:
        with path.open("rb") as file:
            file.seek(-len(end), os.SEEK_END)
            return file.read() == end
    except OSError:  # also: shorter than that
        return False


def count(kinds: Counter[str]) -> str:
    """Say what was left aside: "3 .npy, 1 unsafe names"."""
    return ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common(5))

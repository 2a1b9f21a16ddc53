"""The headers of a tar, one after the other: what it holds, without unpacking anything.

Formats: POSIX.1-2024, "pax Interchange Format"; GNU tar, "Basic Tar Format". `tarfile` of the
standard library is no use here: it takes a damaged header for the end of the archive, keeps every
member in memory, and reads a name of any length that a header announces.
"""

from collections.abc import Iterator
from typing import IO, NamedTuple

BLOCK = 512
MAX_EXTENSION_BYTES = 1024**2  # of a name or of pax records, which are held in memory

REGULAR = frozenset(b"\0" + b"07")
DIRECTORY = ord("5")
LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL = b"LKxg"
GNU_SPARSE = ord("S")

CHECKSUM = slice(148, 156)


class TarDamaged(ValueError):
    """What should be a header is none, or the tar ends within a member."""


class Header(NamedTuple):
    """A member."""

    name: str
    kind: str  # "file", "folder" or "special": a link, a device, a sparse file
    offset: int  # of its bytes
    size: int


def read_headers(file: IO[bytes]) -> Iterator[Header]:
    """Yield the members of the tar `file`, up to its mark of the end or its last byte.

    The file may be moved meanwhile.

    Raises:
        TarDamaged: see there.
    """
    at = 0
    extension: dict[str, str] = {}
    while block := _block(file, at):
        kind = block[156]
        size = _number(block[124:136], at)
        start = at + BLOCK
        if kind in (LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL):
            if size > MAX_EXTENSION_BYTES:
                raise TarDamaged(f"a header of {size:,} bytes at byte {at:,}")
            data = file.read(size)
            if kind == LONG_NAME:
                extension["path"] = _text(data)
            elif kind == PAX:
                extension |= _records(data, at)
            at = _after(file, start, size)
            continue
        if kind == GNU_SPARSE:
            start = _after_sparse_map(file, block, start)
        size = _number(extension["size"].encode(), at, 10) if "size" in extension else size
        stored = 0 if kind in b"123456" else size  # links and devices have no bytes of their own
        name = extension.get("path") or _name(block)
        yield Header(name, _kind(kind, name, extension), start, size)
        extension = {}
        at = _after(file, start, stored)


def _block(file: IO[bytes], at: int) -> bytes:
    """Return the header at byte `at`, nothing at the end."""
    file.seek(at)
    block = file.read(BLOCK)
    if not block.strip(b"\0") and len(block) in (0, BLOCK):
        return b""
    if len(block) < BLOCK:
        raise TarDamaged(f"it ends within a header at byte {at:,}")
    unsigned = sum(block) - sum(block[CHECKSUM]) + 8 * ord(" ")
    if _number(block[CHECKSUM], at) != unsigned:
        raise TarDamaged(f"no valid header at byte {at:,}")
    return block


def _after(file: IO[bytes], start: int, size: int) -> int:
    """Return where the next header is, having made sure that the file goes on until there."""
    end = start + -(-size // BLOCK) * BLOCK
    if size:
        file.seek(end - 1)
        if not file.read(1):
            raise TarDamaged(f"it ends within the member at byte {start:,}")
    return end


def _after_sparse_map(file: IO[bytes], block: bytes, start: int) -> int:
    """Return where the bytes of an old GNU sparse file begin: behind the rest of its map."""
    more = block[482]
    while more:
        file.seek(start)
        rest = file.read(BLOCK)
        if len(rest) < BLOCK:
            raise TarDamaged(f"it ends within the header at byte {start:,}")
        more = rest[504]
        start += BLOCK
    return start


def _kind(kind: int, name: str, extension: dict[str, str]) -> str:
    if kind == DIRECTORY or (kind == 0 and name.endswith("/")):  # the latter in the oldest tars
        return "folder"
    if kind in REGULAR and not any(key.startswith("GNU.sparse.") for key in extension):
        return "file"
    return "special"


def _name(block: bytes) -> str:
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:
        return f"{_text(block[345:500])}/{name}"
    return name


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", errors="surrogateescape")


def _number(field: bytes, at: int, base: int = 8) -> int:
    """Return a number written in octal digits, or in binary where its first bit is set."""
    if field[:1] >= b"\x80":
        value = int.from_bytes(field[1:], "big")
        if field[0] == 0x80:
            return value
    else:
        try:
            value = int(field.partition(b"\0")[0].strip() or b"0", base)
            if value >= 0:
                return value
        except ValueError:
            pass
    raise TarDamaged(f"no valid header at byte {at:,}")


def _records(data: bytes, at: int) -> dict[str, str]:
    """Return pax records: each is its own length, a blank, `key=value` and a line feed."""
    found = {}
    while data.strip(b"\0"):
        digits, _, _ = data.partition(b" ")
        length = _number(digits, at, 10)
        record = data[:length]
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not (0 < length <= len(data) and equals and record.endswith(b"\n")):
            raise TarDamaged(f"no valid pax header at byte {at:,}")
        found[_text(key)] = value.decode("utf-8", errors="surrogateescape")
        data = data[length:]
    return found

"""Files of the MNIST family: big-endian idx, plain or gzipped.

Format: yann.lecun.com/exdb/mnist, "the IDX file format": two zero bytes, a type (8 = unsigned
byte), the number of dimensions, each dimension as uint32, then the data.
"""

import gzip
import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import IO, ClassVar, Self, cast, overload

import numpy as np
from numpy.typing import NDArray

from handful_training.errors import InputError

UNSIGNED_BYTE = 8
BLOCK_BYTES = 8 * 1024**2
MAX_SIDE = 4096


class Numbers(Sequence[str]):
    """The keys of numbered images: "00000", "00001", … without holding them."""

    def __init__(self, count: int) -> None:
        self._range = range(count)
        self._width = len(str(max(count - 1, 0)))

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [f"{n:0{self._width}d}" for n in self._range[i]]
        return f"{self._range[i]:0{self._width}d}"


@dataclass(frozen=True)
class IdxSource:
    """The images of an idx file: uint8 pixels, all of one shape."""

    path: Path
    count: int
    shape: tuple[int, ...]  # (h, w) or (h, w, c)
    kind: ClassVar[str] = "idx"

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the header of `path` and check it against the length of the file.

        Raises:
            InputError: labels instead of images, another type of data, truncated or corrupt.
        """
        dims = _header(path)
        if len(dims) == 1:
            raise InputError(
                f"{path} holds the labels of an idx pair; give its images file "
                f"(…-images-idx3-ubyte) as IMAGES and this one as --labels"
            )
        if len(dims) not in {3, 4} or (len(dims) == 4 and dims[3] not in {1, 3}):
            raise InputError(
                f"{path}: idx data of shape {dims} is not images [n, h, w] or [n, h, w, c]"
            )
        if not (dims[0] and 0 < min(dims[1:3]) <= max(dims[1:3]) <= MAX_SIDE):
            raise InputError(
                f"{path}: announces {dims[0]:,} images of {dims[1]}x{dims[2]}; damaged?"
            )
        _check_length(path, dims)
        return cls(path.absolute(), dims[0], dims[1:])

    @property
    def keys(self) -> Sequence[str]:
        """The images' numbers."""
        return Numbers(self.count)

    @property
    def summary(self) -> str:
        """What was found."""
        return f"{self.count:,} images of {self.shape[0]}x{self.shape[1]} in {self.path}"

    @cached_property
    def digest(self) -> str:
        """Digest of the file as it lies on disk."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def __len__(self) -> int:
        return self.count

    def read(self, i: int) -> NDArray[np.uint8]:
        """Return the pixels of image `i`. In a gzipped file this unpacks all before it."""
        size = prod(self.shape)
        with _unpacked(self.path) as file:
            file.seek(_offset(len(self.shape) + 1) + range(self.count)[i] * size)
            return np.frombuffer(file.read(size), np.uint8).reshape(self.shape)

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """Yield all images in order, at most `size` at a time: uint8 [n, *shape].

        Raises:
            InputError: the file ends early or is corrupt.
        """
        row = prod(self.shape)
        with _unpacked(self.path) as file:
            file.read(_offset(len(self.shape) + 1))
            for start in range(0, self.count, size):
                n = min(size, self.count - start)
                data = file.read(n * row)
                if len(data) != n * row:
                    raise InputError(f"{self.path} ends early; fetch it again")
                yield np.frombuffer(data, np.uint8).reshape(n, *self.shape)
            if file.read(1):  # only at its end does gzip compare the checksum
                raise InputError(f"{self.path} holds more than it announces; fetch it again")

    def stat_token(self, i: int) -> str:  # noqa: ARG002 - the images change together
        """Return the digest of the whole file."""
        return self.digest


def is_idx(path: Path) -> bool:
    """Tell whether `path` begins like an idx file, plain or gzipped."""
    try:
        with _unpacked(path) as file:
            start = file.read(4)
    except InputError:
        return False
    # A type of 8 to 14 with one to four dimensions: nothing else begins so.
    return len(start) == 4 and start[:2] == b"\0\0" and 8 <= start[2] <= 14 and 1 <= start[3] <= 4


def read_idx_labels(path: Path, count: int) -> NDArray[np.uint8]:
    """Return the labels that belong to `count` images: uint8 [count].

    Raises:
        InputError: not a labels file, or one for another number of images.
    """
    dims = _header(path)
    if len(dims) != 1:
        raise InputError(
            f"{path} holds images; --labels takes the labels file of the pair (…-labels-idx1-ubyte)"
        )
    if dims[0] != count:
        raise InputError(f"{path} holds {dims[0]:,} labels for {count:,} images; they are no pair")
    _check_length(path, dims)
    with _unpacked(path) as file:
        return np.frombuffer(file.read()[_offset(1) :], np.uint8)


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open an idx file, unpacking it if need be; say what is wrong with it in our own words."""
    try:
        with path.open("rb") as raw:
            if not _is_packed(raw):
                yield raw
                return
            with gzip.open(raw) as file:
                yield cast("IO[bytes]", file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _is_packed(raw: IO[bytes]) -> bool:
    start = raw.read(2)
    raw.seek(0)
    return start == b"\x1f\x8b"


def _offset(dims: int) -> int:
    return 4 + 4 * dims


def _header(path: Path) -> tuple[int, ...]:
    """Return the dimensions that `path` announces."""
    with _unpacked(path) as file:
        start = file.read(4)
        if len(start) < 4 or start[:2] != b"\0\0":
            raise InputError(
                f"{path} is not an idx file (it begins with {start.hex() or 'nothing'})"
            )
        if start[2] != UNSIGNED_BYTE:
            raise InputError(
                f"{path}: idx data of type 0x{start[2]:02x}; only unsigned bytes are read"
            )
        sizes = file.read(4 * start[3])
        if len(sizes) != 4 * start[3]:
            raise InputError(f"{path} ends within its header; fetch it again")
        return struct.unpack(f">{start[3]}I", sizes)


def _check_length(path: Path, dims: tuple[int, ...]) -> None:
    expected = _offset(len(dims)) + prod(dims)
    with path.open("rb") as raw:
        packed = _is_packed(raw)
        length = path.stat().st_size
        if packed:
            # gzip notes the length at its end, modulo 2^32: no need to unpack the usual file.
            raw.seek(-4, 2)
            length = int.from_bytes(raw.read(4), "little")
    if packed and length != expected % 2**32:  # many members, or damaged
        with _unpacked(path) as file:
            length = sum(iter(lambda: len(file.read(BLOCK_BYTES)), 0))
    elif packed:
        length = expected
    if length != expected:
        raise InputError(
            f"{path} has {length:,} bytes, its header {dims} announces {expected:,}; fetch it again"
        )

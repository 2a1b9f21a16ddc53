"""Where images come from: folders, tables, tars, Parquet, idx files, on disk or behind a URL.

Knows no labels and no pixel size. A new kind of source is one class that keeps the promises below
and one line in `open_source`; everything behind it takes any of them.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self, runtime_checkable
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from handful_bundle.errors import ImageError
from handful_training.errors import InputError
from handful_training.sources.folder import SUFFIXES, FileSource
from handful_training.sources.idx import IdxSource, is_idx

FORMS = (
    "IMAGES is a folder of JPEG, PNG, WebP or TIFF files; a .csv or .parquet file with a `path` "
    "column; .parquet files of image bytes; .tar, .tar.gz or .tgz files, also a folder of them or "
    "train-{000..009}.tar; the images file of an idx pair (train-images-idx3-ubyte, also .gz); or "
    "a URL of any of these, as s3://bucket/folder/"
)


class Source(Protocol):
    """Images in a fixed order.

    Attributes:
        kind: what sort of source it is; part of the fingerprint.
        keys: the name of each image: its path relative to IMAGES, with `/`; an absolute path where
            it lies elsewhere; in an idx file its number.
        summary: what was found and what was left aside, for the user.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102 - in the docstring of the class
    @property
    def keys(self) -> Sequence[str]: ...  # noqa: D102 - in the docstring of the class
    @property
    def summary(self) -> str: ...  # noqa: D102 - in the docstring of the class

    def __len__(self) -> int: ...

    def read(self, i: int) -> bytes | NDArray[np.uint8]:
        """Return image `i` as an encoded file, or as pixels [h, w] or [h, w, c].

        Raises:
            ImageError: this one image cannot be had; the others are not affected.
        """
        ...

    def stat_token(self, i: int) -> str:
        """Return a text that changes when image `i` changes."""
        ...


@runtime_checkable
class EncodedSource(Source, Protocol):
    """A source of encoded files, which worker processes read and decode."""

    def read(self, i: int) -> bytes:
        """Return file `i`.

        Raises:
            ImageError: this one cannot be had.
        """
        ...

    def cut(self, start: int, stop: int) -> Self:
        """Return files `start` to `stop` as a source of their own, small when pickled."""
        ...


@runtime_checkable
class ParallelSource(EncodedSource, Protocol):
    """A source of files that take long to come, but many at once."""

    def read_each(self, rows: Iterable[int]) -> Iterator[bytes | ImageError]:
        """Yield the files of `rows` in that order, an error in place of one that cannot be had."""
        ...


@runtime_checkable
class UnitSource(EncodedSource, Protocol):
    """A source of which some parts can only be read from their start, as a gzipped tar.

    Attributes:
        units: the rows where such parts begin, None if there are none.
    """

    @property
    def units(self) -> Sequence[int] | None: ...  # noqa: D102 - in the docstring of the class


@runtime_checkable
class PixelSource(Source, Protocol):
    """A source whose images are pixels already, all of one shape: nothing needs decoding.

    Attributes:
        shape: of each image, (h, w) or (h, w, c).
    """

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102 - in the docstring of the class

    def blocks(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """Yield all images in order, at most `size` at a time: uint8 [n, *shape].

        Raises:
            InputError: the source ends early or is corrupt.
        """
        ...


class JoinedSource:
    """Several sources one after the other, as when `--labels DIR` brings images of its own."""

    def __init__(self, *parts: EncodedSource | PixelSource) -> None:
        self.parts = parts
        self.kind = "+".join(part.kind for part in parts)
        self.keys: Sequence[str] = [key for part in parts for key in part.keys]
        self.summary = "; ".join(part.summary for part in parts)

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, i: int) -> bytes | NDArray[np.uint8]:
        """Return image `i`, counted through all parts."""
        part, i = self._find(i)
        return part.read(i)

    def stat_token(self, i: int) -> str:
        """Return the token of image `i`, counted through all parts."""
        part, i = self._find(i)
        return part.stat_token(i)

    def _find(self, i: int) -> tuple[Source, int]:
        i = range(len(self))[i]
        for part in self.parts:
            if i < len(part):
                return part, i
            i -= len(part)
        raise IndexError(i)


def parts(source: Source) -> tuple[EncodedSource | PixelSource, ...]:
    """Return the plain sources that `source` is made of, in order."""
    if isinstance(source, JoinedSource):
        return source.parts
    if isinstance(source, (EncodedSource, PixelSource)):
        return (source,)
    raise TypeError(f"{type(source).__name__} is neither an EncodedSource nor a PixelSource")


def read_each(source: EncodedSource, rows: Iterable[int]) -> Generator[bytes | ImageError]:
    """Yield the files of `rows`, ascending, with an error in place of one that cannot be had."""
    if isinstance(source, ParallelSource):
        yield from source.read_each(rows)
        return
    for row in rows:
        try:
            yield source.read(row)
        except ImageError as error:
            yield error


def open_source(images: str | Path, cache: Path | None = None) -> Source:
    """Open whatever `images` names.

    Args:
        images: a path, a URL or a pattern; see `FORMS`.
        cache: a folder for lists of what tars hold, so that an unchanged one is listed once.

    Raises:
        InputError: there is nothing, or nothing that can be read. The message says what was found.
    """
    # Imported here: reading processes import this module, and few read a tar or a URL.
    from handful_training.sources import naming, shards, store  # noqa: PLC0415 - see above

    named = str(images)
    if named.lower().startswith("file://"):
        named = unquote(urlsplit(named).path)
    if store.is_url(named):
        return shards.open_url(named, cache)
    path = Path(named)
    if path.is_dir():
        try:
            return FileSource.scan(path)
        except InputError:
            if found := shards.open_folder(path, cache):
                return found
            raise
    if not path.exists() and naming.is_pattern(named):
        return shards.open_pattern(named, cache)
    if path.is_file() and naming.kind_of(path.name):
        return shards.open_shards(named, [named], cache)
    return _open_file(path)


def _open_file(path: Path) -> Source:
    if not path.is_file():
        what = "is neither a folder nor a file" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}. {FORMS}")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return FileSource.listed(path)
    if is_idx(path):
        return IdxSource.open(path)
    if suffix in SUFFIXES:
        raise InputError(f"{path} is a single image; give the folder that holds it. {FORMS}")
    raise InputError(f"{path} is not a source of images. {FORMS}")

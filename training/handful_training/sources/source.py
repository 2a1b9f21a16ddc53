"""Where images come from: a folder, a CSV of paths, an idx file. Knows no labels and no pixel size.

A new kind of source (Parquet, tar shards) is one class that keeps the promises below and one line
in `open_source`; everything behind it takes any of them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from handful_training.errors import InputError
from handful_training.sources.folder import SUFFIXES, FileSource
from handful_training.sources.idx import IdxSource, is_idx

FORMS = (
    "IMAGES is a folder of .jpg, .jpeg, .png or .webp files, a .csv file with a `path` column, "
    "or the images file of an idx pair (train-images-idx3-ubyte, also .gz)"
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


def open_source(images: str | Path) -> Source:
    """Open whatever `images` names.

    Raises:
        InputError: there is nothing, or nothing that can be read. The message says what was found.
    """
    images = Path(images)
    if images.is_dir():
        return FileSource.scan(images)
    if not images.is_file():
        what = "is neither a folder nor a file" if images.exists() else "does not exist"
        raise InputError(f"{images} {what}. {FORMS}")
    suffix = images.suffix.lower()
    if suffix == ".csv":
        return FileSource.listed(images)
    if is_idx(images):
        return IdxSource.open(images)
    if suffix in SUFFIXES:
        raise InputError(f"{images} is a single image; give the folder that holds it. {FORMS}")
    later = {".parquet": "Parquet", ".tar": "tar", ".tgz": "tar"}
    if name := later.get(Path(images.name.lower().removesuffix(".gz")).suffix):
        raise InputError(f"{images}: {name} files are not read yet; unpack them. {FORMS}")
    raise InputError(f"{images} is not a source of images. {FORMS}")

"""How the images inside tar and Parquet files are called, and which files make up IMAGES."""

import itertools
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from handful_training.errors import InputError
from handful_training.sources.folder import OWN, normalise
from handful_training.sources.store import is_url

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
PARQUET_SUFFIXES = (".parquet",)

# Between the name of a shard and that of an image in it. No folder: it names no class.
INSIDE = "!/"

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


def unique_names(shards: Sequence[str], names: Sequence[Sequence[str]]) -> list[str]:
    """Return one key for each image, from the names that each shard gives its own.

    They stand as they are where all differ. Where two shards use a name twice, each name gets its
    shard's before it, as in `train-000.tar!/0001.jpg`; it may be called so within one shard only
    once.
    """
    plain = list(itertools.chain.from_iterable(names))
    if len(shards) == 1 or len(set(plain)) == len(plain):
        return plain
    return [
        f"{shard}{INSIDE}{name}" for shard, own in zip(shards, names, strict=True) for name in own
    ]


def label_root(images: str) -> str:
    """Return the folder or URL that the paths in a table of labels are relative to."""
    if is_url(images):
        folder = images.endswith("/") or "." not in posixpath.basename(images)
        return images.rstrip("/") if folder else images.rpartition("/")[0]
    place = Path(images)
    return os.path.abspath(place if place.is_dir() else place.parent)  # noqa: PTH100 - resolve() would follow links


def label_key(path: str, root: str) -> str:
    """Return the key of the image that a table of labels calls `path`."""
    if not is_url(root):
        return normalise(path, root)
    return posixpath.normpath(path.removeprefix(f"{root}/"))


def expand(pattern: str) -> list[str]:
    """Return what `train-{000..009}.tar` or `{train,test}.tar` stands for, in order."""
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    if match[1] is not None:
        first, last = int(match[1]), int(match[2])
        if last < first:
            raise InputError(f"{pattern}: {{{match[1]}..{match[2]}}} runs backwards")
        choices: Sequence[str] = [f"{n:0{len(match[1])}d}" for n in range(first, last + 1)]
    else:
        choices = match[3].split(",")
    rests = expand(pattern[match.end() :])
    return [f"{pattern[: match.start()]}{choice}{rest}" for choice in choices for rest in rests]


def is_pattern(text: str) -> bool:
    """Tell whether `text` stands for several files."""
    return _BRACES.search(text) is not None


def kind_of(name: str) -> str | None:
    """Return "tar" or "parquet" for the name of such a file, else None."""
    name = name.lower()
    if name.endswith(TAR_SUFFIXES):
        return "tar"
    return "parquet" if name.endswith(PARQUET_SUFFIXES) else None


def find_shards(folder: Path) -> list[Path]:
    """Return the tar and Parquet files under `folder`, in order of their paths."""
    return sorted(_walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in OWN]
        yield from (Path(at, name) for name in files if kind_of(name) and not name.startswith("."))

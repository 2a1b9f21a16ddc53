"""Which files a command works on: those named, and the images in the folders named.

Folders are walked twice, to count and to read, rather than listed: memory holds one folder's
names, however many there are in all.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from handful_client.errors import InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff"})


def find(named: Sequence[str]) -> Iterator[Path]:
    """Yield each file once, in the order of sorted paths.

    A folder yields, to its leaves, the files with an image's suffix; hidden ones and linked
    folders are passed over. A file that is named itself is yielded whatever its suffix.

    Raises:
        InputError: a path does not exist, or a folder cannot be read.
    """
    roots = [Path(name) for name in named]
    for root in roots:
        if not root.exists():
            raise InputError(f"{root}: no such file or folder; check the path")
    for root in _outermost(roots):
        if root.is_dir():
            yield from _walk(root)
        else:
            yield root


def count(named: Sequence[str]) -> int:
    """Return how many files there are.

    Raises:
        InputError: none, or as `find`.
    """
    found = sum(1 for _ in find(named))
    if found == 0:
        kinds = ", ".join(sorted(SUFFIXES))
        raise InputError(f"no images in {', '.join(named)}; folders are searched for {kinds}")
    return found


def _outermost(roots: Iterable[Path]) -> list[Path]:
    """Return the roots sorted, without those that lie within another."""
    by_place = {Path(os.path.abspath(root)): root for root in roots}  # noqa: PTH100  # keeps links
    places = by_place.keys()
    return sorted(
        root for place, root in by_place.items() if not any(up in places for up in place.parents)
    )


def _walk(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            # Files and folders together: that is the order of sorted paths.
            inside = sorted(
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in entries
                if not entry.name.startswith(".")
            )
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}; make it readable") from error
    for name, is_folder in inside:
        path = folder / name
        if is_folder:
            yield from _walk(path)
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            yield path

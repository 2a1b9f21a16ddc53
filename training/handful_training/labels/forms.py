"""The forms that `--labels` takes: a CSV file, `folders`, a folder of class folders, an idx file.

Each gives a label by row of the source, and notes on what was left aside.
"""

import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from handful_training.errors import InputError
from handful_training.sources.folder import FileSource, normalise
from handful_training.sources.idx import IdxSource, is_idx, read_idx_labels
from handful_training.sources.source import JoinedSource, Source, parts
from handful_training.sources.table import read_table

FORMS = (
    "--labels takes a .csv file with the columns `path,label`, the word `folders`, a folder of "
    "class folders, or for idx images their labels file"
)


class Found(NamedTuple):
    """What a form of `--labels` holds."""

    source: Source  # as given, or joined with the images that the labels brought along
    label_of: dict[int, str]  # by row of that source
    notes: list[str]


def find_labels(spec: str, source: Source, images: str | Path) -> Found:
    """Read `spec`, whichever form it has; see `read_labels`.

    Raises:
        InputError: no such labels, or none that matches an image.
    """
    path = Path(spec)
    if spec == "folders":
        return _by_folder(source, images)
    if path.is_dir():
        return _elsewhere(path, source)
    if not path.exists():
        raise InputError(f"--labels {spec}: no such file or folder. {FORMS}")
    if path.suffix.lower() == ".csv":
        return _listed(path, source, images)
    if is_idx(path):
        return _idx(path, source, images)
    raise InputError(f"--labels {spec}: not a form of labels. {FORMS}")


def _idx(path: Path, source: Source, images: str | Path) -> Found:
    if not isinstance(source, IdxSource):
        raise InputError(f"{path} labels the images of an idx file, but {images} is none. {FORMS}")
    labels = read_idx_labels(path, len(source)).tolist()
    return Found(source, {row: str(label) for row, label in enumerate(labels)}, [])


def _by_folder(source: Source, images: str | Path) -> Found:
    label_of = {row: label for row, key in enumerate(source.keys) if (label := _parent(key))}
    if not label_of:
        why = "no files in folders" if isinstance(source, IdxSource) else "all directly in it"
        raise InputError(
            f"--labels folders: {images} holds {len(source):,} images, {why}, so no folder names "
            f"their class. {FORMS}"
        )
    loose = len(source) - len(label_of)
    notes = [f"{loose:,} images lie in no class folder and stay unlabelled"] if loose else []
    return Found(source, label_of, notes)


def _elsewhere(folder: Path, source: Source) -> Found:
    """Label the images under `folder` by their parent folder; join those that the source lacks."""
    labelled = FileSource.scan(folder)
    label_at = {path: _parent(labelled.keys[i]) for i, path in _paths(labelled)}
    classes = sum(bool(label) for label in label_at.values())
    if not classes:
        raise InputError(
            f"--labels {folder}: all {len(labelled):,} images lie directly in it; put those of "
            f"each class in a folder that is called like the class"
        )
    notes = []
    if loose := len(labelled) - classes:
        notes.append(f"{loose:,} images lie directly in {folder}; they join the pool unlabelled")

    label_of: dict[int, str] = {}
    for row, path in _paths(source):  # images that lie in both count once
        if (label := label_at.pop(path, None)) is not None:
            label_of[row] = label
    if label_at:
        summary = f"{len(label_at):,} images joined from {folder}"
        joining = FileSource(labelled.root, list(label_at), summary)
        label_of |= {len(source) + i: label for i, label in enumerate(label_at.values())}
        source = JoinedSource(*parts(source), joining)
    return Found(source, {row: label for row, label in label_of.items() if label}, notes)


def _listed(table: Path, source: Source, images: str | Path) -> Found:
    place = Path(images)
    root = os.path.abspath(place if place.is_dir() else place.parent)  # noqa: PTH100 - as in folder.py
    label_at: dict[str, str] = {}
    empty = 0
    for line, (path, text) in read_table(table, ["path", "label"]):
        if not path:
            raise InputError(f"{table}, line {line}: the path is empty")
        if not text:
            empty += 1
            continue
        label = _name(text, f"{table}, line {line}")
        key = normalise(path, root)
        if (known := label_at.setdefault(key, label)) != label:
            raise InputError(
                f"{table}, line {line}: {path} is labelled {label!r}, before it was {known!r}; "
                f"keep one of the two lines"
            )
    label_of = {row: label_at.pop(key) for row, key in enumerate(source.keys) if key in label_at}
    notes = [f"{empty:,} lines of {table} have no label; they stay unlabelled"] if empty else []
    if label_at:
        total, unknown = len(label_at) + len(label_of), _some(label_at)
        note = (
            f"{len(label_at):,} of {total:,} paths in {table} are no image of {images}: {unknown}"
        )
        if not label_of:
            raise InputError(
                f"{note}. Paths are relative to {root}, where images are called like "
                f"{_some(source.keys)}"
            )
        notes.append(note)
    if not label_of:
        raise InputError(f"{table} has no label; fill its column `label`")
    return Found(source, label_of, notes)


def _parent(key: str) -> str:
    """Return the name of the folder that holds `key`, "" where that is IMAGES itself."""
    folder = key.rpartition("/")[0].rpartition("/")[2]
    return _name(folder, f"folder of {key!r}") if folder else ""


def _name(text: str, place: str) -> str:
    """Return `text` as a class name: one spelling for what looks the same."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{place}: the label {text!r} is not UTF-8; save it so") from error
        text = unicodedata.normalize("NFC", text)
    return sys.intern(text)  # 240,000 labels are a handful of strings


def _paths(source: Source) -> Iterator[tuple[int, str]]:
    """Yield (row, absolute path) of the images that are files, however the root was spelt."""
    start = 0
    for part in parts(source):
        if isinstance(part, FileSource):
            root = os.path.realpath(part.root)
            for i, key in enumerate(part.keys):
                yield start + i, os.path.join(root, key)  # noqa: PTH118 - an absolute key wins
        start += len(part)


def _some(items: Iterable[str]) -> str:
    return ", ".join(islice(items, 3))

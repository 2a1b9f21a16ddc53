"""The forms that `--labels` takes: tables, folders, idx files, exports of Label Studio.

Each gives a label by row of the source, and notes on what was left aside.
"""

import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from handful_training.errors import InputError
from handful_training.labels import label_studio
from handful_training.labels.label_studio import Export
from handful_training.labels.places import match
from handful_training.sources.column import LabelledSource
from handful_training.sources.folder import FileSource
from handful_training.sources.idx import IdxSource, is_idx, read_idx_labels
from handful_training.sources.naming import INSIDE, label_key, label_root
from handful_training.sources.source import JoinedSource, Source, parts
from handful_training.sources.table import read_header, read_table, restore

CHOSEN_BY = "chosen_by"  # a column that `handful-train suggest` writes

FORMS = (
    "--labels takes a .csv file with the columns `path,label`, the word `folders`, a folder of "
    "class folders, a .json or .csv export of Label Studio, the word `column` (or `column:NAME`) "
    "where Parquet files or tars hold labels, or for idx images their labels file"
)


class Found(NamedTuple):
    """What a form of `--labels` holds."""

    source: Source  # as given, or joined with the images that the labels brought along
    label_of: dict[int, str]  # by row of that source
    notes: list[str]
    chosen_by: Mapping[int, str] = MappingProxyType({})  # how a row came to be labelled, if known


def find_labels(spec: str, source: Source, images: str | Path) -> Found:
    """Read `spec`, whichever form it has; see `read_labels`.

    Raises:
        InputError: no such labels, or none that matches an image.
    """
    if spec == "folders":
        return _by_folder(source, images)
    if spec == "column" or spec.startswith("column:"):
        return _by_column(source, images, spec.partition(":")[2] or None)
    return _by_path(spec, source, images)


def _by_path(spec: str, source: Source, images: str | Path) -> Found:
    path = Path(spec)
    if path.is_dir():
        return _elsewhere(path, source)
    if not path.exists():
        raise InputError(f"--labels {spec}: no such file or folder. {FORMS}")
    if path.suffix.lower() == ".json":
        return _exported(path, label_studio.read_json(path), source, images)
    if path.suffix.lower() == ".csv":
        if label_studio.is_csv(path):
            return _exported(path, label_studio.read_csv(path), source, images)
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


def _by_column(source: Source, images: str | Path, column: str | None) -> Found:
    if not isinstance(source, LabelledSource):
        raise InputError(
            f"--labels column: {images} has no column of labels; Parquet files and tars can. "
            f"{FORMS}"
        )
    label_of = {row: _name(text, f"{images}, row {row}") for row, text in source.labels(column)}
    if not label_of:
        raise InputError(f"--labels column: none of {len(source):,} images in {images} has a label")
    bare = len(source) - len(label_of)
    return Found(source, label_of, [f"{bare:,} images have no label in {images}"] if bare else [])


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
    root = label_root(str(images))
    # A spreadsheet makes 17 of 00017.
    width = len(source.keys[0]) if isinstance(source, IdxSource) else 0
    label_at: dict[str, str] = {}
    chosen_at: dict[str, str] = {}
    empty = 0
    columns = ["path", "label"] + [CHOSEN_BY] * (CHOSEN_BY in read_header(table))
    for line, (path, text, *chosen_by) in read_table(table, columns):
        if not path:
            raise InputError(f"{table}, line {line}: the path is empty")
        if not text:
            empty += 1
            continue
        label = _name(restore(text), f"{table}, line {line}")
        key = path.zfill(width) if width and path.isdecimal() else label_key(path, root)
        if (known := label_at.setdefault(key, label)) != label:
            raise InputError(
                f"{table}, line {line}: {path} is labelled {label!r}, before it was {known!r}; "
                f"keep one of the two lines"
            )
        chosen_at[key] = sys.intern("".join(chosen_by))
    label_of = {row: label_at.pop(key) for row, key in enumerate(source.keys) if key in label_at}
    # Names that our own tables neutralise, unless a file is really called so.
    written = {restore(key): key for key in label_at if restore(key) != key}
    for row, key in enumerate(source.keys if written else ()):
        if key in written and row not in label_of:
            label_of[row] = label_at.pop(written[key])
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
    return Found(source, label_of, notes, _chosen_by(chosen_at, source, label_of))


def _chosen_by(chosen_at: Mapping[str, str], source: Source, rows: Iterable[int]) -> dict[int, str]:
    """Return how the labelled `rows` were chosen, by row; the names as in the table."""
    row_of = {source.keys[row]: row for row in rows}
    names = ((key if key in row_of else restore(key), how) for key, how in chosen_at.items())
    return {row_of[name]: how for name, how in names if how and name in row_of}


def _exported(file: Path, export: Export, source: Source, images: str | Path) -> Found:
    """Label what was labelled in Label Studio, which names images in ways of its own."""
    left_out = [f"{count:,} {why}" for why, count in export.left_out.most_common()]
    notes = [f"images in {file} that stay unlabelled: {', '.join(left_out)}"] if left_out else []
    if not export.label_of:
        raise InputError(
            f"{file} has no label of a whole image; answer a <Choices> question about each image"
            + "".join(f"; {note}" for note in notes)
        )
    found = match(export.label_of, source.keys)
    label_of: dict[int, str] = {}
    clashing: set[int] = set()
    for url, row in found.row_of.items():
        label = _name(export.label_of[url], f"{file}, {url}")
        if label_of.setdefault(row, label) != label:
            clashing.add(row)
    for row in clashing:
        del label_of[row]
    for urls, why in (
        (found.unknown, f"are no image of {images}"),
        (found.open, "may be one of several images of the same name, and stay unlabelled"),
        (found.by_name, "are known by the name of the file alone"),
    ):
        if urls:
            notes.append(
                f"{len(urls):,} of {len(export.label_of):,} labels in {file} {why}: {_some(urls)}"
            )
    if clashing:
        names = _some(source.keys[row] for row in sorted(clashing))
        notes.append(f"{len(clashing):,} images have two labels in {file} and get none: {names}")
    if not label_of:
        raise InputError(f"{'; '.join(notes)}. Images are called like {_some(source.keys)}")
    return Found(source, label_of, notes)


def _parent(key: str) -> str:
    """Return the name of the folder that holds `key`, "" where that is IMAGES itself."""
    folder = key.rpartition(INSIDE)[2].rpartition("/")[0].rpartition("/")[2]
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

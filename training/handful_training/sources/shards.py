"""Open IMAGES that are tar or Parquet files, or lie behind a URL."""

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from handful_training.errors import InputError
from handful_training.sources.folder import SUFFIXES
from handful_training.sources.idx import IdxSource
from handful_training.sources.naming import expand, find_shards, is_pattern, kind_of
from handful_training.sources.parquet import ParquetSource, opened
from handful_training.sources.parquet_layout import find_layout
from handful_training.sources.parquet_paths import ParquetPaths, listed, table_paths
from handful_training.sources.place import Place
from handful_training.sources.remote import RemoteSource, look_up, relative, search
from handful_training.sources.store import is_url, shown
from handful_training.sources.table import table_rows
from handful_training.sources.tar import TarSource

IDX_NAME = re.compile(r"-idx\d-ubyte(\.gz)?$")

Opened = TarSource | ParquetSource | ParquetPaths | RemoteSource | IdxSource


def open_shards(named: str, locations: Sequence[str], cache: Path | None) -> Opened:
    """Open tar or Parquet files.

    Args:
        named: what the user called them.
        locations: paths or URLs, in order.
        cache: a folder for lists of what tars hold, or None.

    Raises:
        InputError: a file that is missing, damaged or of another kind than the others.
    """
    kinds = {kind_of(_path(location)) for location in locations}
    if len(kinds) != 1 or None in kinds:
        raise InputError(
            f"{shown(named)} names files of several kinds; give tars (.tar, .tar.gz, .tgz) or "
            f"Parquet files (.parquet), not both"
        )
    places = [Place.find(location) for location in locations]
    if kinds == {"tar"}:
        return TarSource.open(places, shown(named), cache)
    if len(places) == 1:
        with opened(places[0]) as table:
            layout = find_layout(table.schema_arrow, places[0].shown)
        if layout.data is None:
            return _parquet_paths(places[0])
    return ParquetSource.open(places, shown(named))


def open_folder(folder: Path, cache: Path | None) -> Opened | None:
    """Open the tar or Parquet files under `folder`; None if there is none."""
    found = [str(path) for path in find_shards(folder)]
    return open_shards(str(folder), found, cache) if found else None


def open_pattern(pattern: str, cache: Path | None) -> Opened:
    """Open the shards that `train-{000..009}.tar` stands for.

    Raises:
        InputError: one of them is missing.
    """
    return open_shards(pattern, expand(pattern), cache)


def open_url(url: str, cache: Path | None) -> Opened:
    """Open images behind a URL: a prefix, a table, tars, Parquet or an idx file.

    Raises:
        InputError: there is nothing, or it cannot be read. The message names the remedy.
    """
    if is_pattern(_path(url)):
        return open_pattern(url, cache)
    name = _path(url).lower()
    if kind_of(name):
        return open_shards(url, [url], cache)
    if name.endswith(".csv"):
        return _csv_paths(Place.find(url))
    if IDX_NAME.search(name):
        return IdxSource.open(_fetched(Place.find(url), cache))
    if name.endswith(tuple(SUFFIXES)):
        raise InputError(f"{shown(url)} is a single image; give the folder that holds it")
    source, others, aside = search(url)
    if source is not None:
        return source
    shards = sorted(other for other in others if kind_of(other))
    if not shards:
        raise InputError(
            f"no image under {shown(url)}: found {aside}. Images are files that end in "
            f"{', '.join(sorted(SUFFIXES))}; tars and Parquet files may hold them"
        )
    return open_shards(url, [f"{url.rstrip('/')}/{shard}" for shard in shards], cache)


def _path(location: str) -> str:
    """Return `location` without the query of a URL."""
    return shown(location)


def _parquet_paths(place: Place) -> ParquetPaths | RemoteSource:
    if not is_url(place.location):
        return ParquetPaths.read_table(place)
    return _remote(place, list(table_paths(place)), place)


def _csv_paths(place: Place) -> RemoteSource:
    paths = []
    for line, (path,) in table_rows(place.open(), place.shown, ["path"]):
        if not path:
            raise InputError(f"{place.shown}, line {line}: the path is empty")
        paths.append(path)
    return _remote(place, paths, None)


def _remote(place: Place, paths: Sequence[str], table: Place | None) -> RemoteSource:
    folder = place.location.partition("?")[0].rpartition("/")[0]
    keys = list(dict.fromkeys(relative(path, folder) for path in paths))
    summary = listed(place, len(paths), len(keys))
    return RemoteSource(folder, keys, look_up(folder, keys), summary, table)


def _fetched(place: Place, cache: Path | None) -> Path:
    """Copy an idx file to the disk, once for as long as it does not change."""
    folder = Path(tempfile.mkdtemp()) if cache is None else cache
    folder.mkdir(parents=True, exist_ok=True)
    changed = re.sub(r"\W+", "-", place.token)[:80]
    path = folder / f"{changed}-{place.name}"
    if not (path.exists() and path.stat().st_size == place.size):
        partial = path.with_suffix(f".{os.getpid()}")
        with place.open() as file, partial.open("wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
        partial.replace(path)
    return path

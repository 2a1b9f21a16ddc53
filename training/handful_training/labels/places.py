"""Where another tool says that an image lies → which image of the source that is.

Label Studio names images by URL: of its own uploads, of files below a root of its own, of a
bucket. What such a name and a key of the source have in common is the end of a path.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

_LOCAL_FILES = "/data/local-files"
_UPLOADS = "/data/upload/"
_UPLOAD_HASH = re.compile(r"^[0-9a-f]{8}-(?=.)")


class Place(NamedTuple):
    """A path with `/`, and whether its file may have been renamed by an upload."""

    path: str
    uploaded: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


def read_place(url: str) -> Place:
    """Return the path within the URL or path of an image.

    `/data/local-files/?d=a/b.jpg` is `a/b.jpg`; `/data/upload/3/1f2e3d4c-b.jpg` an upload, of
    which the nine signs before the name are not its own; `s3://bucket/a/b.jpg` and
    `https://host/a/b.jpg?key=…` are `a/b.jpg`; anything else is a path already.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        return Place(rest.partition("/")[2])  # a name in a bucket: not encoded, may hold any sign
    if not separator and not url.startswith("/data/"):
        return Place(url.replace("\\", "/").removeprefix("./"))
    try:
        parts = urlsplit(url)
    except ValueError:  # no URL after all
        return Place(url)
    if parts.path.rstrip("/") == _LOCAL_FILES:
        return Place(parse_qs(parts.query).get("d", [""])[0].replace("\\", "/"))
    return Place(unquote(parts.path).lstrip("/"), uploaded=_UPLOADS in parts.path)


class Matches(NamedTuple):
    """Which image of the source each place is: place -> row."""

    row_of: dict[str, int]
    by_name: list[str]  # those of them that agree in nothing but the name of the file
    open: list[str]  # several images may be meant
    unknown: list[str]  # no image


def match(urls: Iterable[str], keys: Sequence[str]) -> Matches:
    """Find the images that `urls` name among the `keys` of a source.

    The key itself comes first; then the longest key with a folder that the path ends with; then
    the one key that ends with the path; and last the one image of that name, if no other path
    claims it. Where two images are equally good, neither is taken.
    """
    names = _Names(keys)
    found = Matches({}, [], [], [])
    by_name: dict[int, list[str]] = {}
    for url in urls:
        place = read_place(url)
        rows = names.rows(place)
        if (row := _by_path(place.path, rows, keys)) is not None:
            found.row_of[url] = row
        elif len(rows) == 1:
            by_name.setdefault(rows[0], []).append(url)
        else:
            (found.open if rows else found.unknown).append(url)

    taken = set(found.row_of.values())
    for row, claims in by_name.items():
        if row in taken:
            found.unknown.extend(claims)
        elif len(claims) > 1:
            found.open.extend(claims)
        else:
            found.row_of[claims[0]] = row
            found.by_name.append(claims[0])
    return found


class _Names:
    """The rows of a source by the names of their files."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._named: dict[str, list[int]] = {}
        self._uploaded: dict[str, list[int]] = {}
        for row, key in enumerate(keys):
            name = key.rpartition("/")[2]
            self._named.setdefault(name, []).append(row)
            self._uploaded.setdefault(_as_uploaded(name), []).append(row)

    def rows(self, place: Place) -> list[int]:
        """Return the images whose file has the name of `place`."""
        rows = self._named.get(place.name, [])
        if rows or not place.uploaded:
            return rows
        return self._uploaded.get(_UPLOAD_HASH.sub("", place.name), [])


def _by_path(path: str, rows: Sequence[int], keys: Sequence[str]) -> int | None:
    """Return the one of `rows` whose key agrees with `path` as far as the shorter of them goes."""
    same = [row for row in rows if keys[row] == path]
    within = [row for row in rows if "/" in keys[row] and _ends_with(path, keys[row])]
    around = [row for row in rows if _ends_with(keys[row], path)]
    if same or within:
        return (same or sorted(within, key=lambda row: len(keys[row])))[-1]
    return around[0] if len(around) == 1 else None


def _ends_with(path: str, end: str) -> bool:
    return f"/{path}".endswith(f"/{end.lstrip('/')}")


def _as_uploaded(name: str) -> str:
    """Return a file's name as an upload spells it: without blanks and signs."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))

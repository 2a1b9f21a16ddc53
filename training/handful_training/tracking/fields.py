"""Names and values in the form that MLflow stores. Pure functions of plain data."""

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Mapping
from pathlib import PurePath
from urllib.parse import urlsplit

MAX_KEY = 250
MAX_VALUE = 500  # of parameters: what servers before MLflow 2.11 take; newer ones take more

_FORBIDDEN = re.compile(r"[^\w./: \-]")


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested settings as one level: {"model": {"width": 32}} gives {"model.width": 32}."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def key(name: str) -> str:
    """Return `name` as MLflow accepts it for a parameter or metric.

    A name that had to change ends in a digest of the original, so that two names stay two.
    """
    clean = _FORBIDDEN.sub("_", name)[:MAX_KEY]
    if posixpath.normpath(clean) != clean or clean.startswith(("/", "..")) or clean == ".":
        clean = clean.replace("/", "_").replace("..", "__")
    if clean == name and name not in {"", "."}:
        return name
    return f"{clean[: MAX_KEY - 9]}-{_digest(name)[:8]}"


def value(content: object) -> str:
    """Return `content` as the text of a parameter, at most `MAX_VALUE` characters.

    A longer one keeps its beginning, its length and a digest, so that two values stay two.
    """
    if isinstance(content, str):
        text = content
    elif content is None or isinstance(content, bool | int | float):
        text = str(content)
    else:
        text = json.dumps(content, default=str, ensure_ascii=False)
    if len(text) <= MAX_VALUE:
        return text
    tail = f"… ({len(text)} characters, sha256 {_digest(text)[:16]})"
    return text[: MAX_VALUE - len(tail)] + tail


def split_finite(values: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the finite ones and the others.

    MLflow stores an infinity as 1.8e308, which flattens every chart that it is drawn in.
    """
    numbers = {name: float(number) for name, number in values.items()}
    finite = {name: number for name, number in numbers.items() if math.isfinite(number)}
    return finite, {name: number for name, number in numbers.items() if name not in finite}


def place(source: str) -> tuple[str, str]:
    """Return what kind of place a source is, and its name without anything private.

    Of a path the last part is kept, of a URL neither credentials nor query.
    """
    parts = urlsplit(source)
    if not parts.scheme or not parts.netloc:
        return "local", PurePath(source).name
    return parts.scheme, f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def dataset_digest(digest: str) -> str:
    """Return the 32 hex digits that fit where MLflow keeps a dataset's digest."""
    return digest.removeprefix("sha256:")[:32]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""Files behind a URL: object stores through obstore, everything else through fsspec.

Knows no images. A read that fails for a passing reason is tried again; a file that is missing or
forbidden concerns that file only; a store that stays out of reach ends the run, because images
that were left out for that would never be looked for again.

No message quotes a URL's user, password or query, nor the text of a library's error, which may.
"""

import os
import random
import re
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

from handful_bundle.errors import HandfulError
from handful_training.errors import InputError, TrainingError
from handful_training.sources.folder import FileMissing, FileUnreadable

Result = TypeVar("Result")

PAUSES = (0.2, 0.8, 3.2)  # seconds before the second, third and fourth try

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_STATUS = re.compile(r"status code: (\d{3})|<Code>(\w+)</Code>")
_DENIED = {"401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_METADATA = "169.254.169.254"  # where a cloud machine asks for its role
_GONE = {"404", "NoSuchBucket", "NoSuchKey"}


class StoreUnreachable(TrainingError):
    """A store does not answer. Nothing is kept of what was begun; run the command again."""


class Entry(NamedTuple):
    """A file in a store."""

    path: str  # as the store calls it
    size: int  # bytes, -1 where the store does not say
    token: str  # changes when the file does


class Store(Protocol):
    """What is asked of a store. Errors are the libraries' own; `tried` translates them."""

    def list(self, root: str) -> Iterator[Entry]: ...  # noqa: D102 - named after what they do
    def head(self, path: str) -> Entry: ...  # noqa: D102
    def read(self, path: str, start: int | None, stop: int | None) -> bytes: ...  # noqa: D102


def is_url(text: str) -> bool:
    """Tell whether `text` is a URL and not a path."""
    return _URL.match(text) is not None


def shown(text: str) -> str:
    """Return `text`, a path or a URL, without user, password, query and fragment of a URL."""
    if not is_url(text):
        return text
    parts = urlsplit(text)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def split(url: str) -> tuple[Store, str]:
    """Return the store of `url`, and how it calls the file or folder there.

    Raises:
        InputError: no such kind of URL, or a package that it needs is not installed.
    """
    match = _URL.match(url)
    assert match is not None
    store = _store(match[1].lower(), urlsplit(url).netloc)
    return store, store.path_of(url)


def tried(call: Callable[[], Result], url: str) -> Result:
    """Return what `call` returns; on a passing error try three times more, waiting in between.

    Raises:
        FileMissing: there is no such file.
        FileUnreadable: access is denied.
        StoreUnreachable: it still fails.
    """
    for pause in PAUSES:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - each library has errors of its own
            found = translated(error, url)
            if not isinstance(found, StoreUnreachable):
                raise found from None
            time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads tries, no secret
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - as above
        raise translated(error, url) from None


def translated(error: Exception, url: str) -> HandfulError:
    """Return in our own words, and without secrets, what a library raised."""
    if isinstance(error, HandfulError):
        return error
    if isinstance(error, (FileNotFoundError, IsADirectoryError)):
        return FileMissing("no such file")
    reason = _reason(error)
    if reason in _DENIED or isinstance(error, PermissionError):
        return FileUnreadable("access is denied")
    if reason in _GONE:
        return FileMissing("no such file")
    return StoreUnreachable(
        f"{shown(url)} cannot be reached ({reason}); check the network and run the command again"
    )


def refused(error: HandfulError, url: str) -> InputError:
    """Return what to tell the user when IMAGES itself cannot be had."""
    if isinstance(error, FileMissing):
        return InputError(f"{shown(url)}: there is no such file, bucket or folder")
    if isinstance(error, FileUnreadable):
        hint = (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE; for a public bucket "
            "AWS_SKIP_SIGNATURE=true"
        )
        hint = hint if url.lower().startswith("s3") else "check the credentials"
        return InputError(f"{shown(url)}: {error}; {hint}")
    return InputError(f"{error}. Is the address right, and with S3 AWS_ENDPOINT_URL, AWS_REGION?")


def _reason(error: Exception) -> str:
    """Name an error without quoting it."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return str(status)
    if type(error).__name__ in {"PermissionDeniedError", "UnauthenticatedError"}:
        return "403"
    if _METADATA in str(error):
        return "403"  # no credentials are set, and no role was found instead
    found = [code or status for status, code in _STATUS.findall(str(error))]
    return found[-1] if found else type(error).__name__


class _Named(Store, Protocol):
    def path_of(self, url: str) -> str: ...


@lru_cache(maxsize=8)
def _store(protocol: str, place: str) -> _Named:
    # Imported here: reading processes that read no URL would pay for it.
    if protocol in {"s3", "s3a", "gs", "az", "abfs", "abfss"}:
        from handful_training.sources.store_object import ObjectStore  # noqa: PLC0415 - see above

        return ObjectStore(protocol, place, os.environ)
    from handful_training.sources.store_fsspec import FsspecStore  # noqa: PLC0415 - see above

    return FsspecStore(protocol)

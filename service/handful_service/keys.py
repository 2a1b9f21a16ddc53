"""Who may ask: API keys, of which the service knows digests alone.

A key is 256 random bits, so its SHA-256 cannot be turned back and needs no salt. The file is looked
at again at most once a second, so that a key that was taken out is refused soon, without a restart.
"""

import hmac
import logging
import re
import time
from hashlib import sha256
from pathlib import Path

from handful_bundle.errors import HandfulError
from handful_service.context import RequestContext
from handful_service.errors import ServiceError

_LOOK_SECONDS = 1.0
_LINE = re.compile(r"([0-9a-fA-F]{64})(?:\s+(\S.*))?")  # as sha256sum writes it
_MAX_BYTES = 2**20

_log = logging.getLogger(__name__)


class KeysUnusable(HandfulError):
    """The file of API keys cannot be used; the message names the remedy."""


class Keys:
    """The keys that are live.

    Args:
        path: a text file: on each line the SHA-256 of a key in hexadecimal digits and, after a
            space, whose it is. Empty lines and lines that begin with # say nothing. Keys of one
            name share what one tenant may hold; one without a name is a tenant by itself.

    Raises:
        KeysUnusable: the file cannot be read, holds something else, or no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked_at = time.monotonic()
        self._seen = _state(path)
        self._tenants = _read(path)
        if not self._tenants:
            raise KeysUnusable(f"{path} holds no key; {_REMEDY}")
        self._several = len(set(self._tenants.values())) > 1

    def check(self, context: RequestContext) -> str | None:
        """Let a request pass that bears a live key as `Authorization: Bearer`.

        Returns:
            Whose key it is; None where all are of one tenant.

        Raises:
            ServiceError: it bears none, or another one.
        """
        self._look()
        scheme, _, key = context.headers.get(b"authorization", b"").partition(b" ")
        digest = sha256(key.strip()).digest()
        live = False
        for known in self._tenants:  # all of them: how long it takes says nothing
            live |= hmac.compare_digest(known, digest)
        if not live or scheme.lower() != b"bearer":
            raise ServiceError(
                "unauthorized",
                "Send a live key as `Authorization: Bearer KEY`; the SDK takes it from "
                "HANDFUL_API_KEY.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return self._tenants.get(digest) if self._several else None

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        state = _state(self._path)
        if state == self._seen:
            return
        self._seen = state
        try:
            self._tenants = _read(self._path)
        except KeysUnusable as error:  # half-written, perhaps; nobody is let in or out by mistake
            _log.warning("%s; the keys before it stay live", error)
        else:
            _log.info("API keys were read again: %d are live", len(self._tenants))
            self._several = len(set(self._tenants.values())) > 1


_REMEDY = (
    'write one line per key: `printf %s "$KEY" | sha256sum`, with KEY from `python -c \'import '
    "secrets; print(secrets.token_urlsafe(32))'`"
)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> dict[bytes, str]:
    """Return whose each key is, by its digest."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1).decode("ascii")
    except OSError as error:
        raise KeysUnusable(
            f"{path} cannot be read ({error.strerror}); let HANDFUL_API_KEYS_FILE name a file "
            "that this user may read"
        ) from None
    except UnicodeDecodeError:
        raise KeysUnusable(f"{path} is not plain text; {_REMEDY}") from None
    if len(text) > _MAX_BYTES:
        raise KeysUnusable(
            f"{path} is larger than {_MAX_BYTES} bytes, so no list of keys; {_REMEDY}"
        )
    tenants = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        found = _LINE.fullmatch(words)
        if found is None:  # perhaps a key itself: it is not repeated
            raise KeysUnusable(f"line {number} of {path} is no SHA-256; {_REMEDY}")
        tenants[bytes.fromhex(found[1])] = found[2] or found[1].lower()
    return tenants

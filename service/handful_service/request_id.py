"""The id that a request is known by, in headers, problems and the log."""

import random
import re
from collections.abc import Mapping

_SAFE = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def new_request_id() -> str:
    """Return an id that no other request has: 32 hexadecimal digits, not a secret."""
    return f"{random.getrandbits(128):032x}"


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """Return a request's own id, where it sent a safe one, else a new one."""
    given = headers.get(b"x-request-id")
    return given.decode() if given is not None and _SAFE.fullmatch(given) else new_request_id()

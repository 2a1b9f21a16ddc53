"""What stands before the body of a request, and is refused before any of it is believed.

RFC 9112: sections 3.2 (one Host), 5.4 (a limit on the head), 6.1 (transfer codings). Where two
programs in a row may read a request in two ways, it is not answered.
"""

import re
from collections.abc import Iterable

from handful_service.errors import ServiceError
from handful_service.settings import Settings

MAX_HEAD_BYTES = 2**15
"""Of the request line and all fields; what clients and proxies send has a few hundred."""

Fields = list[tuple[bytes, bytes]]  # names in lower case

# Supervisors ask by whatever address they know.
_PROBES = (b"/livez", b"/readyz")
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]*)(?::[0-9]*)?")


class Head:
    """Judges the heads of requests.

    Args:
        settings: the names that clients may call this service by.
    """

    def __init__(self, settings: Settings) -> None:
        self._names = frozenset(name.encode() for name in settings.host_names)

    def refusal(
        self, version: str, target: bytes, fields: Fields, received: int
    ) -> ServiceError | None:
        """Return why a request is refused, if it is.

        Args:
            version: of HTTP, such as "1.1".
            target: the path and the query as sent.
            fields: the header.
            received: no more than so many bytes have come.
        """
        if received > MAX_HEAD_BYTES and _size(target, fields) > MAX_HEAD_BYTES:
            return too_large()
        hosts = []
        for name, value in fields:
            if name == b"host":
                hosts.append(value)
            elif name == b"transfer-encoding" and value.lower() != b"chunked":
                return ServiceError(
                    "body_compressed", "Send the body with no transfer coding but `chunked`."
                )
        if len(hosts) != 1 and (hosts or version == "1.1"):
            return ServiceError("bad_request", "Send one Host, as HTTP/1.1 has it.")
        return self._refusal_of(hosts[0], target) if hosts else None

    def _refusal_of(self, host: bytes, target: bytes) -> ServiceError | None:
        if host in self._names:
            return None
        found = _HOST.fullmatch(host)
        if found is None:
            return ServiceError(
                "bad_request", "The Host is no name or address; send the one of the URL."
            )
        if not self._names or found[1].lower() in self._names or target in _PROBES:
            return None
        return ServiceError(
            "host_unknown", "Call the service by a name that HANDFUL_HOSTS lists, or add this one."
        )


def too_large() -> ServiceError:
    """Return the refusal of a head beyond the limit."""
    return ServiceError(
        "header_too_large", f"The header has more than {MAX_HEAD_BYTES} bytes; send less of it."
    )


def _size(target: bytes, fields: Iterable[tuple[bytes, bytes]]) -> int:
    return len(target) + sum(len(name) + len(value) + 4 for name, value in fields)

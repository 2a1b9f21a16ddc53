"""What a client may be told: where, as whom, how patiently, and which space it accepts."""

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from handful_client.errors import InputError

DEFAULT_URL = "http://127.0.0.1:8000"
CONNECT_TIMEOUT = 5.0
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Options:
    """Settings of a client. Immutable: `with_options` makes another.

    Attributes:
        url: where the service answers, without a trailing slash.
        api_key: sent as `Authorization: Bearer`; never shown.
        timeout: seconds for one attempt, from connecting to the last byte.
        max_retries: attempts after the first.
        expect_space: the only embedding space to accept; None: any.
    """

    url: str = DEFAULT_URL
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 30.0
    max_retries: int = 2
    expect_space: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InputError(f"{self.url!r} is no URL of a service; write it like {DEFAULT_URL}")
        if parts.username or parts.password:
            raise InputError("the URL holds a user name or password; pass `api_key` instead")
        if not self.timeout > 0:
            raise InputError(f"timeout is {self.timeout}; give a positive number of seconds")
        if self.max_retries < 0:
            raise InputError(f"max_retries is {self.max_retries}; give 0 or more")
        # Checked here because httpx would quote the key in its own message.
        if self.api_key is not None and not (
            self.api_key.isascii() and self.api_key.isprintable() and " " not in self.api_key
        ):
            raise InputError("the API key holds blanks or control characters; copy it again")

    @property
    def is_loopback(self) -> bool:
        """Whether the service runs on this machine, where no proxy could find it."""
        return urlsplit(self.url).hostname in _LOOPBACK


def from_environment(
    url: str | None,
    api_key: str | None,
    *,
    timeout: float,
    max_retries: int,
    expect_space: str | None,
) -> Options:
    """Return options; `HANDFUL_URL` and `HANDFUL_API_KEY` stand in for what is None.

    Raises:
        InputError: a value makes no sense.
    """
    url = url or os.environ.get("HANDFUL_URL") or DEFAULT_URL
    api_key = api_key or os.environ.get("HANDFUL_API_KEY") or None
    return Options(url.rstrip("/"), api_key, timeout, max_retries, expect_space)

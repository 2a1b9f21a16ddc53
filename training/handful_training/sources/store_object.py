"""Object stores (S3, Google Cloud, Azure) through obstore: one compiled library, no SDK.

Credentials come from the environment and from the machine's role. A profile of the AWS command
line is read where boto3 is installed.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import from_url

from handful_training.errors import InputError
from handful_training.sources.store import Entry

PROFILE_FILES = (".aws/credentials", ".aws/config")
OTHER_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SKIP_SIGNATURE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


class ObjectStore:
    """One bucket.

    Args:
        protocol: s3, s3a, gs, az, abfs or abfss.
        bucket: the part of the URL before the first slash.
        environment: where settings and credentials come from.
    """

    def __init__(self, protocol: str, bucket: str, environment: Mapping[str, str]) -> None:
        settings: dict[str, Any] = {}
        if protocol.startswith("s3"):
            if endpoint := environment.get("AWS_ENDPOINT_URL_S3"):
                settings["endpoint"] = endpoint
            if profile := _profile(environment):
                settings["credential_provider"] = profile
        self._store = from_url(
            f"{protocol}://{bucket}",
            # Plain HTTP is used only where an endpoint is set that way.
            client_options={"allow_http": True},
            # A listing is tried again by nobody else.
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=60)},
            **settings,
        )

    def path_of(self, url: str) -> str:
        """Return the key of an object, or the prefix of a folder."""
        return unquote(urlsplit(url.replace("?", "%3F").replace("#", "%23")).path).strip("/")

    def list(self, root: str) -> Iterator[Entry]:
        """Yield every object whose key begins with `root/`, page by page."""
        for page in obstore.list(self._store, f"{root}/" if root else None, chunk_size=1000):
            for found in page:
                yield _entry(found["path"], found)

    def head(self, path: str) -> Entry:
        """Return one object."""
        return _entry(path, obstore.head(self._store, path))

    def read(self, path: str, start: int | None, stop: int | None) -> bytes:
        """Return the bytes of an object, all or from `start` up to `stop`."""
        if start is None or stop is None:
            return obstore.get(self._store, path).bytes().to_bytes()
        return obstore.get_range(self._store, path, start=start, end=stop).to_bytes()


def _entry(path: str, found: Mapping[str, Any]) -> Entry:
    tag = found["e_tag"] or found["last_modified"].isoformat()
    return Entry(path, found["size"], f"{found['size']}:{tag}")


def _profile(environment: Mapping[str, str]) -> object | None:
    """Return what signs requests with a profile of the AWS command line, if one is to be used."""
    named = environment.get("AWS_PROFILE")
    if not named and any(environment.get(name) for name in OTHER_CREDENTIALS):
        return None
    if not named and not any((Path.home() / name).exists() for name in PROFILE_FILES):
        return None
    if importlib.util.find_spec("boto3") is None:
        if named:
            raise InputError(
                "AWS_PROFILE is read by boto3, which is not installed: pip install boto3, or set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead"
            )
        return None
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415 - is boto3 there?
    from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415 - the same

    try:
        return Boto3CredentialProvider()
    except (BotoCoreError, ValueError) as error:
        raise InputError(f"AWS_PROFILE {named or 'default'}: {error}") from error

"""What the blocking and the awaiting client are made of, apart from their methods."""

import copy
import dataclasses
import os
from pathlib import Path
from typing import Any, Literal, Self

from handful_client.backend import Backend
from handful_client.channel import Channel, Shared
from handful_client.local import Local
from handful_client.options import DEFAULT_URL, from_environment
from handful_client.remote import Remote


class ClientBase:
    """Options and backend of a client. See `Handful` for the arguments."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        max_retries: int = 2,
        expect_space: str | None = None,
    ) -> None:
        self._options = from_environment(
            url, api_key, timeout=timeout, max_retries=max_retries, expect_space=expect_space
        )
        self._backend: Backend = Remote(Channel(self._options, Shared()))
        self._where = self._options.url

    @classmethod
    def local(
        cls,
        bundle_dir: str | os.PathLike[str],
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        threads: int | None = None,
        expect_space: str | None = None,
    ) -> Self:
        """Open a bundle in this process: the same methods and answers without a service.

        Needs the extra `local`.

        Args:
            bundle_dir: the folder.
            device: where the model runs; `cuda` fails where CUDA does not run.
            threads: CPU threads of one run; None: what this process may use.
            expect_space: refuse a bundle of any other embedding space.

        Raises:
            BundleUnusable: the folder is no sound bundle, or the device does not run here.
            MissingExtra: the `handful` distribution is not installed.
            SpaceMismatch: not the space that is expected.
        """
        client = cls(DEFAULT_URL, expect_space=expect_space)
        root = Path(bundle_dir)
        backend = Local.open(root, device=device, threads=threads, expect_space=expect_space)
        vars(client).update(_backend=backend, _where=str(root))
        return client

    def with_options(
        self,
        *,
        timeout: float | None = None,
        max_retries: int | None = None,
        expect_space: str | None = None,
    ) -> Self:
        """Return a client with other options, over the same connections; None changes nothing.

        Both share the retry budget. Closing either closes the connections.
        """
        wanted = {"timeout": timeout, "max_retries": max_retries, "expect_space": expect_space}
        changed: dict[str, Any] = {
            name: value for name, value in wanted.items() if value is not None
        }
        options = dataclasses.replace(self._options, **changed)
        client = copy.copy(self)
        vars(client).update(_options=options, _backend=self._backend.with_options(options))
        return client

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._where!r})"

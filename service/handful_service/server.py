"""Flags → settings → a server. Each flag is also `HANDFUL_<FLAG>`."""

import argparse
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from handful_bundle.bundle import Bundle
from handful_bundle.errors import BundleMissing, HandfulError
from handful_service import logs
from handful_service.app import create_app
from handful_service.express_protocol import ExpressProtocol
from handful_service.keys import Keys, KeysUnusable
from handful_service.registry import Reference, RegistryError
from handful_service.settings import Settings
from handful_service.supervisor import Post

_BACKLOG = 2048  # connections that wait to be accepted

_log = logging.getLogger(__name__)
_FLAGS = ("model", "host", "port", "device", "workers")


def serve(arguments: Sequence[str] | None, post: Post) -> NoReturn:
    """Serve until told to stop, then exit: 0 done, 1 failure, 2 bad usage or input.

    Args:
        arguments: of the command; None: those of this process.
        post: what the supervisor says of the processes before this one.
    """
    try:
        sys.exit(_serve(_settings(arguments), post))
    except _UsageError as error:
        _complain(str(error))
        sys.exit(2)
    except (BundleMissing, KeysUnusable, RegistryError) as error:
        _complain(str(error))
        sys.exit(2)
    except HandfulError as error:
        _complain(str(error))
        sys.exit(1)


class _UsageError(Exception):
    """A flag or a variable is not usable. The message names the remedy."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message}; see `handful-serve --help`")


def _settings(arguments: Sequence[str] | None) -> Settings:
    parser = _Parser(
        prog="handful-serve",
        description="Serve a model over HTTP.",
        epilog="Each flag may also be given as HANDFUL_<FLAG>. Further variables: "
        + ", ".join(
            f"HANDFUL_{name.upper()}" for name in Settings.model_fields if name not in _FLAGS
        )
        + ".",
    )
    for name in _FLAGS:
        field = Settings.model_fields[name]
        parser.add_argument(
            f"--{name}", help=f"{field.description} (default: {field.default})",
            default=argparse.SUPPRESS,
        )  # fmt: skip
    parser.suggest_on_error = True  # type: ignore[attr-defined]  # from Python 3.14
    given = vars(parser.parse_args(arguments))
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        source = f"--{name}" if name in given else f"HANDFUL_{name.upper()}"
        message = first["msg"].removeprefix("Value error, ")
        raise _UsageError(f"{source}: {message}" if name else message) from None


def _serve(settings: Settings, post: Post) -> int:
    logs.configure(settings.log_format, settings.log_level)
    if post.cause is not None:
        _log.warning(
            "the process before this one ended by %s; restarts so far: %d",
            post.cause, post.restarts,
        )  # fmt: skip
    bundle = None
    if settings.from_registry:
        Reference.parse(settings.model)
    else:
        # Opened here, so that a bundle that is no good is one line and an exit status.
        bundle = Bundle.load(
            Path(settings.model),
            device=settings.device,
            threads=settings.threads,
            gpu_memory_bytes=settings.gpu_memory_bytes,
        )
    if settings.workers > 1 and settings.device == "cuda":
        raise _UsageError("--workers: one process per GPU; leave it at 1 with --device cuda")
    if settings.api_keys_file is not None:
        Keys(settings.api_keys_file)  # told in one line, before anything listens
    if post.listener is None:
        post.listening(
            _listen(settings), settings.workers, settings.drain_seconds + settings.grace_seconds
        )
    assert post.listener is not None
    server = _Server(_config(settings, create_app(settings, bundle, post.restarts)), post)
    # uvicorn stops in good order and then raises the signal again: to no further effect.
    signal.signal(signal.SIGTERM, lambda _number, _frame: server.stop())
    server.run(sockets=[post.listener])
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """uvicorn's server, whose supervisor is told what it does."""

    def __init__(self, config: uvicorn.Config, post: Post) -> None:
        super().__init__(config)
        self._post = post

    def stop(self) -> None:
        """Stop, however far it has come."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self._post.serving()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port and answer what is under way."""
        self._post.closing()
        await super().shutdown(sockets)


def _config(settings: Settings, app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # the envelope writes it
        server_header=False,
        proxy_headers=False,
        http=ExpressProtocol,
        ws="none",
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.grace_seconds),
    )


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(_BACKLOG)  # from here on who connects waits, and is not refused
    except OSError as error:
        raise _UsageError(
            f"{settings.host}:{settings.port} cannot be listened on ({error.strerror}); choose "
            "another with --host and --port"
        ) from None
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    _log.info("listening on %s", address)
    if settings.api_keys_file is None:
        _warn_of_strangers(listener)
    return listener


def _warn_of_strangers(listener: socket.socket) -> None:
    """Say who may ask where nobody needs a key."""
    if ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback:
        _log.info(
            "only this machine can ask; --host opens the service to others, and "
            "HANDFUL_API_KEYS_FILE names the keys that they need"
        )
    else:
        _log.warning(
            "anyone who reaches this address may ask: no keys are set (HANDFUL_API_KEYS_FILE)"
        )


def _complain(message: str) -> None:
    sys.stderr.write(f"handful-serve: {logs.escape(message)}\n")

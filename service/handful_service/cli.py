"""`handful-serve`: flags → settings → a server. Each flag is also `HANDFUL_<FLAG>`."""

import argparse
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import uvicorn
from pydantic import ValidationError
from uvicorn.supervisors import Multiprocess

from handful_bundle.bundle import Bundle
from handful_bundle.errors import BundleMissing, HandfulError
from handful_service import logs
from handful_service.app import create_app
from handful_service.connections import GuardedProtocol
from handful_service.keys import Keys, KeysUnusable
from handful_service.registry import Reference, RegistryError
from handful_service.settings import Settings

_BACKLOG = 2048  # connections that wait to be accepted

_log = logging.getLogger(__name__)
_FLAGS = ("model", "host", "port", "device", "workers")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Serve until told to stop, then exit: 0 done, 1 failure, 2 bad usage or input."""
    try:
        sys.exit(_serve(_settings(arguments)))
    except _UsageError as error:
        _complain(str(error))
        sys.exit(2)
    except (BundleMissing, KeysUnusable, RegistryError) as error:
        _complain(str(error))
        sys.exit(2)
    except HandfulError as error:
        _complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(0)


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


def _serve(settings: Settings) -> int:
    logs.configure(settings.log_format, settings.log_level)
    bundle = None
    if settings.from_registry:
        Reference.parse(settings.model)
    else:
        # Opened here, so that a bundle that is no good is one line and an exit status.
        bundle = Bundle.load(
            Path(settings.model),
            device="cpu" if settings.workers > 1 else settings.device,
            threads=settings.threads,
        )
    if settings.workers > 1 and settings.device == "cuda":
        raise _UsageError("--workers: one process per GPU; leave it at 1 with --device cuda")
    if settings.api_keys_file is not None:
        Keys(settings.api_keys_file)  # told in one line, before anything listens
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    _log.info("listening on %s", address)
    if settings.api_keys_file is None:
        _warn_of_strangers(listener)
    if settings.workers > 1:
        return _serve_in_workers(settings, listener)
    server = uvicorn.Server(_config(settings, create_app(settings, bundle)))
    # uvicorn stops in good order and then raises the signal again: to no further effect.
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    server.run(sockets=[listener])
    return 0 if server.started else 1


def _serve_in_workers(settings: Settings, listener: socket.socket) -> int:
    """Let uvicorn run several processes on one socket and replace those that die.

    Each has a model, a queue and metrics of its own: /metrics tells of the one that answers.
    """
    for name, value in settings.model_dump(mode="json", exclude_none=True).items():
        os.environ[f"HANDFUL_{name.upper()}"] = str(value)  # how the workers get the flags
    config = _config(settings, "handful_service.cli:create_worker_app", factory=True)
    Multiprocess(config, sockets=[listener]).run()
    return 0


def create_worker_app() -> object:
    """Return the app of one of several workers, with settings from the environment."""
    settings = Settings()
    logs.configure(settings.log_format, settings.log_level)
    return create_app(settings)


def _config(settings: Settings, app: object, *, factory: bool = False) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # an app, or where to find its factory
        factory=factory,
        workers=settings.workers,
        log_config=None,
        access_log=False,  # the envelope writes it
        server_header=False,
        proxy_headers=False,
        http=GuardedProtocol,
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
    listener.set_inheritable(True)
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


if __name__ == "__main__":
    main()

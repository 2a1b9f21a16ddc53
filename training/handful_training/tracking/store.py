"""Open the place where MLflow keeps runs and versions, and turn its failures into ours."""

import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock

from handful_training.errors import TrainingError
from handful_training.tracking.patient import Patient

DEFAULT_URI = "sqlite:///mlflow.db"
PROBE_SECONDS = 5
SQLITE = "sqlite:///"
SQL_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql")
_CAUSE = re.compile(r"[Cc]aused by (?:\w+\.)*(\w+)")
_CREDENTIALS = re.compile(r"(?<=//)[^/@\s]+@")

# stdout belongs to `--json` and stderr to us; nobody asked to be counted; and a server that is
# gone is told within a minute rather than after MLflow's own four. What is set already stays.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_PRINT_MODEL_URLS_ON_CREATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
}


def load_mlflow() -> Any:
    """Import MLflow (2.4 s), quietly."""
    for name, setting in ENVIRONMENT.items():
        os.environ.setdefault(name, setting)
    import mlflow  # noqa: PLC0415 - slow: `--help` must not wait for it

    logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # It prints the stack of an error that it then raises, and we tell.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    return mlflow


@contextmanager
def quiet() -> Iterator[None]:
    """Drop warnings inside the block: MLflow's about its own imports, which nobody can act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Store:
    """MLflow's tracking store and model registry at one URI."""

    uri: str
    mlflow: Any
    client: Any  # mlflow.MlflowClient

    @classmethod
    def open(cls, uri: str | None = None) -> Self:
        """Connect to `uri`, else MLFLOW_TRACKING_URI, else `mlflow.db` in the current folder.

        Raises:
            TrainingError: it does not answer.
        """
        uri = absolute(uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI)
        with quiet():
            mlflow = load_mlflow()
            with store_errors(uri):
                _probe(uri)
                # Global on purpose: MLflow's own store looks logged models up through it.
                mlflow.set_tracking_uri(uri)
                with _migrating(uri, mlflow):
                    client = mlflow.MlflowClient(uri)
                return cls(uri, mlflow, Patient(client))

    @property
    def artifacts(self) -> str | None:
        """Where new experiments keep files; None leaves it to the server."""
        path = sqlite_path(self.uri)
        return None if path is None else (path.parent / "mlartifacts").as_uri()

    def experiment(self, name: str) -> str:
        """Return the id of the experiment `name`, made if there is none."""
        with self.errors():
            found = self.client.get_experiment_by_name(name)
            if found is None:
                try:
                    return str(self.client.create_experiment(name, self.artifacts))
                except self.mlflow.exceptions.MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                found = self.client.get_experiment_by_name(name)  # another process was quicker
        if found.lifecycle_stage != "active":
            raise TrainingError(
                f"the experiment {name!r} was deleted; `mlflow experiments restore "
                f"--experiment-id {found.experiment_id}` brings it back"
            )
        return str(found.experiment_id)

    def ask(self, question: Callable[[Any], Any], *, absent: tuple[str, ...]) -> Any:
        """Return the client's answer to `question`, None where its error code is one of `absent`.

        Raises:
            TrainingError: MLflow failed in another way.
        """
        with self.errors():
            try:
                return question(self.client)
            except self.mlflow.exceptions.MlflowException as error:
                if error.error_code in absent:
                    return None
                raise

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn MLflow's failures inside the block into TrainingError."""
        with store_errors(self.uri):
            yield


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn MLflow's failures inside the block into TrainingError with the remedy."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow, see load_mlflow
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - comes with MLflow

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        detail = _detail(error)
        raise TrainingError(f"MLflow at {redacted(uri)}: {detail}; {_remedy(detail)}") from error


def _detail(error: Exception) -> str:
    text = str(error).strip()
    if "Max retries exceeded" in text or isinstance(error, ConnectionError | TimeoutError):
        cause = _CAUSE.search(text)
        return f"it does not answer ({cause[1] if cause else type(error).__name__})"
    lines = text.splitlines()
    return without_credentials(lines[0])[:300].rstrip(".") if lines else type(error).__name__


def _remedy(detail: str) -> str:
    if "Invalid Host header" in detail:
        return (
            "start that server with --allowed-hosts naming this host, or change MLFLOW_TRACKING_URI"
        )
    if "error code 401" in detail or "error code 403" in detail:
        return "set MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN"
    return (
        "make it answer, set MLFLOW_TRACKING_URI to one that does, or unset it to use ./mlflow.db"
    )


def absolute(uri: str) -> str:
    """Return `uri`, a relative sqlite path made absolute: it outlives a change of folder."""
    path = sqlite_path(uri)
    if path is None:
        return uri
    _, _, query = uri.partition("?")
    return f"{SQLITE}{path}" + (f"?{query}" if query else "")


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a sqlite URI, absolute; None for other URIs."""
    if not uri.startswith(SQLITE):
        return None
    return Path(uri.removeprefix(SQLITE).partition("?")[0]).absolute()


def redacted(uri: str) -> str:
    """Return `uri` without user name and password."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc="…@" + parts.netloc.rpartition("@")[2]))


def without_credentials(text: str) -> str:
    """Return `text` with user names and passwords taken out of the URLs in it."""
    return _CREDENTIALS.sub("…@", text)


@contextmanager
def _migrating(uri: str, mlflow: Any) -> Iterator[None]:
    """Let one process at a time look at a database file: the first one makes its tables.

    It makes them in a file beside, and puts that in place when it is whole: MLflow refuses a
    database whose making was cut off.
    """
    path = sqlite_path(uri)
    if path is None:
        yield
        return
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.exists() or path.stat().st_size == 0:
            new = path.with_name(f".{path.name}.new")
            for leftover in (new, new.with_name(f"{new.name}-journal")):
                leftover.unlink(missing_ok=True)
            mlflow.MlflowClient(f"{SQLITE}{new}")
            new.replace(path)
        yield


def _probe(uri: str) -> None:
    """Ask once and briefly: MLflow itself would try for minutes."""
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme in SQL_SCHEMES:
        _probe_database(uri, scheme)
    elif scheme in {"http", "https"}:
        from mlflow.utils import credentials, rest_utils  # noqa: PLC0415 - slow, as above

        credentials_of: Callable[..., object] = credentials.get_default_host_creds
        request: Callable[..., object] = rest_utils.http_request  # knows proxies and certificates
        # Any answer will do: what it says is looked at by the first real request.
        request(credentials_of(uri), "/health", "GET", max_retries=0, timeout=PROBE_SECONDS)


def _probe_database(uri: str, scheme: str) -> None:
    import sqlalchemy  # noqa: PLC0415 - comes with MLflow

    path = sqlite_path(uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    options = {"connect_timeout": PROBE_SECONDS} if scheme in {"postgresql", "mysql"} else {}
    engine = sqlalchemy.create_engine(uri, connect_args=options)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()

"""The MLflow registry as the service sees it: which version, and its files. The only mlflow here.

mlflow takes seconds to import, so nothing is imported before the first look. A version is an
MLflow model with the bundle among its artifacts; only its files are read, the model itself is
never loaded.
"""

import errno
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from handful_bundle.errors import HandfulError

BUNDLE_PATH = "artifacts/bundle"  # of the bundle within a version
_MANIFEST_TAG = "handful.manifest"  # of a version, written when it was registered
_DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
_REFERENCE = re.compile(r"models:/(?P<name>[^/@:]+)(@(?P<alias>[^/@:]+)|/(?P<version>\d+))")
# A watcher asks again soon, so it need not insist: mlflow's own defaults are minutes.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class Offer(NamedTuple):
    """What a version says of the bundle that it holds."""

    sizes: dict[str, int]  # file → bytes
    manifest: str | None  # digest of manifest.json, which names all others; None: not recorded


class RegistryError(HandfulError):
    """The registry does not answer, or has no such model. The message names the remedy."""


@dataclass(frozen=True)
class Reference:
    """A registered model and which of its versions: the one with `alias`, or `version` itself."""

    name: str
    alias: str | None
    version: str | None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

        Raises:
            RegistryError: neither of them.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise RegistryError(
                f"`{text}` names no model: write models:/NAME@ALIAS, models:/NAME/VERSION or a "
                "bundle folder"
            )
        return cls(match["name"], match["alias"], match["version"])


def tracking_uri() -> str:
    """Return where the registry is: `MLFLOW_TRACKING_URI`, else a database file here."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _DEFAULT_TRACKING_URI


class Registry:
    """One registered model.

    Args:
        reference: which one.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._uri = tracking_uri()
        self._client: Any = None

    @property
    def key(self) -> str:
        """Tells this model in this registry from all others."""
        if self._uri.startswith(("http://", "https://")):
            return f"{self._uri} {self.reference}"
        # The path of a database file may be relative: the same words, another registry elsewhere.
        return f"{self._uri} from {Path.cwd()} {self.reference}"

    def resolve(self) -> str:
        """Return the version that is meant now.

        Raises:
            RegistryError: the registry does not answer, or has no such model or alias.
        """
        client = self._connect()
        name, alias = self.reference.name, self.reference.alias
        if alias is None:
            assert self.reference.version is not None
            return self.reference.version
        try:
            return str(client.get_model_version_by_alias(name, alias).version)
        except Exception as error:
            code = getattr(error, "error_code", None)
            if code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise RegistryError(
                    f"the registry has no {name}@{alias}; `handful-train run` makes one, "
                    f"`handful-train promote {name} VERSION` chooses one"
                ) from error
            raise RegistryError(
                f"the registry does not answer ({type(error).__name__}); is MLFLOW_TRACKING_URI "
                "right?"
            ) from error

    def offer(self, version: str) -> Offer:
        """Return what `version` offers, before any of it is fetched.

        Raises:
            RegistryError: it cannot be had, or there are folders among its files.
        """
        client = self._connect()
        from mlflow import artifacts  # noqa: PLC0415 - seconds, so never at import

        uri = f"models:/{self.reference.name}/{version}/{BUNDLE_PATH}"
        try:
            tags = client.get_model_version(self.reference.name, version).tags
            found = artifacts.list_artifacts(artifact_uri=uri)
        except Exception as error:
            raise RegistryError(
                f"{self.reference.name} version {version}: its files cannot be listed "
                f"({type(error).__name__}); is the artifact store up, and the version whole?"
            ) from error
        if any(file.is_dir for file in found):
            raise RegistryError(
                f"{self.reference.name} version {version} has folders in its bundle; register the "
                "version again"
            )
        sizes = {PurePosixPath(file.path).name: file.file_size or 0 for file in found}
        return Offer(sizes, tags.get(_MANIFEST_TAG))

    def download(self, version: str, file: str, target: Path) -> None:
        """Write the bundle's `file` of `version` to `target`.

        Raises:
            RegistryError: it cannot be had.
        """
        self._connect()
        from mlflow import artifacts  # noqa: PLC0415 - seconds, so never at import

        uri = f"models:/{self.reference.name}/{version}/{BUNDLE_PATH}/{file}"
        with tempfile.TemporaryDirectory(dir=target.parent.parent) as folder:
            try:
                found = Path(artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
            except OSError:
                raise  # the disk is full, and the like
            except Exception as error:
                if os.strerror(errno.ENOSPC) in str(error):  # mlflow wraps what its threads raise
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
                raise RegistryError(
                    f"{self.reference.name} version {version}: {file} cannot be downloaded "
                    f"({type(error).__name__}); is the artifact store up?"
                ) from error
            if not found.is_file():
                raise RegistryError(
                    f"{self.reference.name} version {version} has no {file}; register the version "
                    "again"
                )
            found.replace(target)

    def _connect(self) -> Any:
        """Return mlflow's client, importing mlflow the first time."""
        if self._uri.startswith("sqlite:///"):
            path = Path(self._uri.removeprefix("sqlite:///"))
            if not path.is_file():  # mlflow would make an empty one
                raise RegistryError(
                    f"there is no registry at {path.name}; `handful-train run` makes one, or set "
                    "MLFLOW_TRACKING_URI"
                )
        if self._client is None:
            for name, value in _ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            try:
                import mlflow  # noqa: PLC0415 - seconds, so never at import
            except ImportError as error:
                raise RegistryError(
                    "mlflow is not installed: `pip install 'handful[registry]'`, or serve a "
                    "bundle folder with --model DIR"
                ) from error
            try:
                mlflow.set_tracking_uri(self._uri)
                self._client = mlflow.MlflowClient(self._uri, self._uri)
            except Exception as error:
                raise RegistryError(
                    f"the registry cannot be opened ({type(error).__name__}); a database needs "
                    "`pip install mlflow`, a server only mlflow-skinny"
                ) from error
        return self._client

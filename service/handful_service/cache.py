"""Bundles from the registry, kept on disk by digest. Knows no registry.

    CACHE/bundles/<digest of manifest.json>/   whole bundles, each verified when it was put here
    CACHE/references/<digest>.json             which version and bundle a reference last meant
    CACHE/partial/                             downloads under way; nothing is read from here

A folder appears under its name only when it is whole. Files that another bundle in the cache has
already are copied from it: onnxruntime loads links that lead out of a folder, so none are made.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from handful_bundle.bundle import MANIFEST, read_manifest
from handful_bundle.errors import BundleCorrupt, BundleError

_KEEP = 3  # bundles beside those that a reference means
_STALE_SECONDS = 3600  # a download this old belongs to a process that died

Download = Callable[[str, Path], None]
"""Writes the bundle's file of the given name to the given path."""


class Remembered(NamedTuple):
    """What a reference meant when the registry last told."""

    version: str
    root: Path  # of the bundle


class Cache:
    """A folder of verified bundles. Several processes may share it.

    Args:
        root: the folder; made when needed.
    """

    def __init__(self, root: Path) -> None:
        self._bundles = root / "bundles"
        self._references = root / "references"
        self._partial = root / "partial"

    def recall(self, reference: str) -> Remembered | None:
        """Return what `reference` last meant, if that bundle is here."""
        try:
            stored = json.loads(self._pointer(reference).read_bytes())
            found = Remembered(stored["version"], self._bundles / Path(stored["bundle"]).name)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if (found.root / MANIFEST).is_file() else None

    def remember(self, reference: str, version: str, root: Path) -> None:
        """Note that `reference` means the bundle in `root`, then drop bundles of no more use."""
        self._references.mkdir(parents=True, exist_ok=True)
        pointer = self._pointer(reference)
        temporary = pointer.with_suffix(f".{os.getpid()}")
        try:
            temporary.write_text(json.dumps({"version": version, "bundle": root.name}))
            temporary.replace(pointer)
        finally:
            temporary.unlink(missing_ok=True)
        self._prune()

    def fetch(self, download: Download) -> Path:
        """Return the folder of the bundle that `download` gives, downloading only what is missing.

        Raises:
            BundleError: the manifest is no good, or a file is not the one that it names.
            OSError: the disk is full, or the like. Nothing half-written stays.
        """
        self._sweep()
        self._partial.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=self._partial))
        try:
            download(MANIFEST, temporary / MANIFEST)
            whole = self._bundles / _digest(temporary / MANIFEST).removeprefix("sha256:")
            if not whole.is_dir():
                self._complete(temporary, download)
                self._put(temporary, whole)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return whole

    def discard(self, root: Path) -> None:
        """Remove a bundle that turned out to be no good."""
        shutil.rmtree(root, ignore_errors=True)

    def _complete(self, folder: Path, download: Download) -> None:
        manifest = read_manifest(folder)  # also refuses names that are not a bundle's
        here = self._files_by_digest()
        for name, expected in manifest.files.items():
            source = here.get(expected)
            if source is not None:
                with contextlib.suppress(OSError):  # pruned by another process meanwhile
                    shutil.copyfile(source, folder / name, follow_symlinks=False)
            path = folder / name
            if not path.is_file() or path.is_symlink() or _digest(path) != expected:
                path.unlink(missing_ok=True)
                download(name, path)
            if (found := _digest(path)) != expected:
                raise BundleCorrupt(
                    f"{name} arrived as {found}, the manifest says {expected}; register the "
                    "version again"
                )

    def _put(self, folder: Path, whole: Path) -> None:
        self._bundles.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        try:
            folder.chmod(0o755)
            folder.rename(whole)
        except OSError:
            if not whole.is_dir():  # else another process was quicker
                raise

    def _files_by_digest(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for root in self._roots():
            with contextlib.suppress(BundleError, OSError):
                for name, digest in read_manifest(root).files.items():
                    found[digest] = root / name
        return found

    def _roots(self) -> list[Path]:
        return list(self._bundles.iterdir()) if self._bundles.is_dir() else []

    def _prune(self) -> None:
        meant = set()
        for pointer in self._references.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                meant.add(json.loads(pointer.read_bytes())["bundle"])
        others = [root for root in self._roots() if root.name not in meant]
        for root in sorted(others, key=_age)[_KEEP:]:
            self.discard(root)

    def _sweep(self) -> None:
        if self._partial.is_dir():
            for path in self._partial.iterdir():
                if _age(path) > _STALE_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)

    def _pointer(self, reference: str) -> Path:
        return self._references / f"{hashlib.sha256(reference.encode()).hexdigest()}.json"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _age(path: Path) -> float:
    """Seconds since `path` last changed; none if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0

"""Open and write the folder that training and serving share, trusting nothing on the way in."""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from handful_bundle import arrays, canary, classes, decoder, encoder, golden, head
from handful_bundle.classes import Classes
from handful_bundle.decoder import Decoder
from handful_bundle.encoder import Encoder
from handful_bundle.errors import (
    BundleCorrupt,
    BundleError,
    BundleIncompatible,
    BundleMissing,
    DeviceFailed,
    DeviceOutOfMemory,
)
from handful_bundle.head import Head
from handful_bundle.manifest import FORMAT, Manifest, digest, space_digest
from handful_bundle.pixels import PIXELS_VERSION
from handful_bundle.session import Device, Provider

MANIFEST = "manifest.json"
REQUIRED = frozenset({encoder.FILE, golden.FILE})
OPTIONAL = frozenset({decoder.FILE, head.FILE, classes.FILE})
MAX_MANIFEST_BYTES = 4 * 2**20
MAX_MODEL_BYTES = 2 * 2**30  # protobuf's own limit
MAX_ARRAYS_BYTES = arrays.MAX_BYTES + 2**20  # an .npz that does not compress, and its directory


@dataclass(frozen=True)
class Bundle:
    """A model that has been checked and is ready to run."""

    root: Path
    manifest: Manifest
    encoder: Encoder
    decoder: Decoder | None
    head: Head | None
    classes: Classes | None

    @property
    def provider(self) -> Provider:
        """The provider that really runs the encoder."""
        return self.encoder.provider

    @classmethod
    def load(
        cls,
        root: Path,
        *,
        device: Device = "auto",
        threads: int | None = None,
        gpu_memory_bytes: int | None = None,
        reuse: "Bundle | None" = None,
    ) -> Self:
        """Open the bundle in `root`, checking every byte before trusting any.

        Args:
            root: the folder.
            device: where to run; `cuda` fails where CUDA does not run.
            threads: CPU threads of one run; by default the process's quota.
            gpu_memory_bytes: that each graph may take of a GPU; by default all that there is.
            reuse: a bundle that is open on the same device; sessions of equal files are shared.

        Raises:
            BundleMissing: `root/manifest.json` does not exist.
            BundleIncompatible: written for another format or pixels version.
            BundleCorrupt: the manifest, a file, a graph or a golden example is not as it should be.
            DeviceUnavailable: `device` does not run here.
            DeviceOutOfMemory: it has no room for the model.
            DeviceFailed: it runs nothing in this process any more.
        """
        manifest = read_manifest(root)
        files = _read_files(root, manifest)
        where = device, threads, gpu_memory_bytes
        opened_encoder, opened_decoder = _reusable(reuse, manifest)
        if opened_encoder is None:
            opened_encoder = Encoder.open(
                files[encoder.FILE], manifest.image, manifest.embedding_dim, manifest.latent_dim,
                *where,
            )  # fmt: skip
        if opened_decoder is None and manifest.likelihood is not None:
            opened_decoder = Decoder.open(
                files[decoder.FILE], manifest.image, manifest.latent_dim, manifest.likelihood,
                *where,
            )  # fmt: skip
        opened_head = opened_classes = None
        if manifest.labels is not None:
            opened_head = Head.open(
                files[head.FILE], manifest.embedding_dim, manifest.labels, *where
            )
            _check_novelty(manifest, opened_head)
            if classes.FILE in files:
                opened_classes = Classes.unpack(
                    files[classes.FILE], len(manifest.labels), manifest.latent_dim
                )
        bundle = cls(root, manifest, opened_encoder, opened_decoder, opened_head, opened_classes)
        _check_outputs(bundle, files[golden.FILE])
        return bundle

    @staticmethod
    def save(root: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        """Write a bundle to the new folder `root`: all of it or nothing.

        Raises:
            BundleError: `root` exists, or `files` are not those that the manifest names.
        """
        if root.exists():
            raise BundleError(f"{root} exists; name a new folder or remove it")
        found = {name: digest(data) for name, data in files.items()}
        if found != manifest.files:
            odd = sorted({name for name, _ in found.items() ^ manifest.files.items()})
            raise BundleError(f"the manifest does not describe: {', '.join(odd)}")
        _check_names(manifest)
        root.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
        try:
            text = manifest.model_dump_json(indent=1).encode()
            for name, data in {**files, MANIFEST: text}.items():
                with (temporary / name).open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            temporary.chmod(0o755)  # mkdtemp makes it private
            _sync_folder(temporary)
            temporary.rename(root)
            _sync_folder(root.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def read_manifest(root: Path) -> Manifest:
    """Read and check `root/manifest.json` alone; the other files are not looked at.

    Raises:
        BundleMissing: it does not exist.
        BundleIncompatible: written for another format or pixels version.
        BundleCorrupt: it is not a manifest.
    """
    path = root / MANIFEST
    if not path.exists():
        raise BundleMissing(f"{path} not found; `handful-train export` writes a bundle")
    data = _read(path, max_bytes(MANIFEST))
    try:
        raw = json.loads(data)
        found = raw["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleCorrupt(f"{path}: not a manifest; export the bundle again") from error
    if found != FORMAT:  # before validating: only our own format is known here
        raise BundleIncompatible(
            f"{path}: format {found!r:.20}, this release reads {FORMAT}; export the bundle again"
        )
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "manifest"
        raise BundleCorrupt(f"{path}: {place}: {first['msg']}; export the bundle again") from error
    if manifest.pixels_version != PIXELS_VERSION:
        raise BundleIncompatible(
            f"{path}: pixels version {manifest.pixels_version}, this release decodes version "
            f"{PIXELS_VERSION}; train again or use the release that wrote the bundle"
        )
    _check_names(manifest)
    space = space_digest(manifest.files[encoder.FILE], manifest.image, manifest.pixels_version)
    if manifest.space != space:
        raise BundleCorrupt(f"{path}: `space` is not that of the encoder; export the bundle again")
    return manifest


def max_bytes(name: str) -> int:
    """Return how large the file `name` of a bundle may be."""
    if name == MANIFEST:
        return MAX_MANIFEST_BYTES
    return MAX_MODEL_BYTES if name.endswith(".onnx") else MAX_ARRAYS_BYTES


def check_listing(sizes: Mapping[str, int]) -> None:
    """Check names and sizes of files that a store offers as a bundle, before any is fetched.

    Raises:
        BundleMissing: no manifest among them.
        BundleCorrupt: a file that no bundle has, or one that is too large.
    """
    if MANIFEST not in sizes:
        raise BundleMissing(f"no {MANIFEST} among the files; register the version again")
    if odd := sorted(sizes.keys() - REQUIRED - OPTIONAL - {MANIFEST}):
        raise BundleCorrupt(
            f"{len(odd)} files that no bundle has, {odd[0]:.50} among them; register the version "
            "again"
        )
    for name, size in sizes.items():
        if size > max_bytes(name):
            raise BundleCorrupt(
                f"{name}: {size} bytes, at most {max_bytes(name)} are read; export a smaller model"
            )


def _reusable(bundle: Bundle | None, manifest: Manifest) -> tuple[Encoder | None, Decoder | None]:
    """Return what is open of `bundle` already and is the same for `manifest`."""
    if bundle is None or bundle.manifest.image != manifest.image:
        return None, None
    old = bundle.manifest
    same = {name for name, found in manifest.files.items() if old.files.get(name) == found}
    same_decoder = decoder.FILE in same and old.likelihood == manifest.likelihood
    return (
        bundle.encoder if encoder.FILE in same else None,
        bundle.decoder if same_decoder else None,
    )


def _check_outputs(bundle: Bundle, examples: bytes) -> None:
    """Run every part on the golden `examples`, and on inputs that the bundle did not choose."""
    try:
        golden.check_golden(examples, bundle.encoder, bundle.head)
        canary.check_canary(bundle.encoder, bundle.head, bundle.decoder)
    except (BundleError, DeviceFailed, DeviceOutOfMemory):
        raise
    except Exception as error:  # onnxruntime raises its own unrelated classes
        raise BundleCorrupt(
            f"{bundle.root}: a graph opens but does not run ({type(error).__name__}); export the "
            "bundle again"
        ) from error


def _check_novelty(manifest: Manifest, opened: Head) -> None:
    assert manifest.head is not None
    info = manifest.head.novelty
    if (info is not None and info.method is not None) != opened.tells_novelty:
        raise BundleCorrupt(
            f"{head.FILE} {'tells' if opened.tells_novelty else 'does not tell'} `novelty`, the "
            "manifest says otherwise; fit the head again"
        )


def _check_names(manifest: Manifest) -> None:
    names = manifest.files.keys()
    if not REQUIRED <= names <= REQUIRED | OPTIONAL:
        raise BundleCorrupt(
            f"the manifest names {sorted(names)}; a bundle needs {sorted(REQUIRED)} and may have "
            f"{sorted(OPTIONAL)}; export the bundle again"
        )


def _read_files(root: Path, manifest: Manifest) -> dict[str, bytes]:
    present = {path.name for path in root.iterdir()} - {MANIFEST}
    if present != manifest.files.keys():
        odd = ", ".join(sorted(present ^ manifest.files.keys()))
        raise BundleCorrupt(f"{root}: missing or unexpected files: {odd}; export the bundle again")
    files = {}
    for name, expected in manifest.files.items():
        data = _read(root / name, max_bytes(name))
        if (found := digest(data)) != expected:
            raise BundleCorrupt(
                f"{root / name}: {found}, the manifest says {expected}; fetch it again"
            )
        files[name] = data
    return files


def _read(path: Path, limit: int) -> bytes:
    """Read a plain file through one descriptor, so that what is checked is what is used."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise BundleCorrupt(f"{path}: cannot be opened, or a link; copy the file") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise BundleCorrupt(f"{path}: not a plain file, or a link; copy the file")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > limit:
            raise BundleCorrupt(
                f"{path}: {status.st_size} bytes, at most {limit} are read; export a smaller model"
            )
        return file.read(status.st_size + 1)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

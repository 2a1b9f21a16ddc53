"""Read every image once: a source becomes a pack of uint8 pixels on disk, mapped into memory.

A pack lies in `WORK/packs/` under the fingerprint of its inputs and is used again for as long as
they do not change. It is made in a folder beside its place and moved there when whole, so what a
killed run leaves is never taken for a pack.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from handful_bundle.manifest import ImageSpec
from handful_bundle.session import cpu_quota
from handful_training.errors import InputError, TrainingError
from handful_training.packs.build import build_pack
from handful_training.packs.files import RECORD, Pack, PackDamaged, Rejected
from handful_training.packs.fingerprint import fingerprint
from handful_training.packs.pool import check_start
from handful_training.sources.source import Source

__all__ = ["MIN_IMAGES", "Pack", "Rejected", "pack_source"]

MIN_IMAGES = 50
PARTIAL = ".partial"

logger = logging.getLogger(__name__)


def pack_source(
    source: Source,
    spec: ImageSpec,
    work: Path,
    *,
    workers: int | None = None,
    minimum: int = MIN_IMAGES,
) -> Pack:
    """Return the pixels of `source`, read now or in an earlier run.

    Two runs that want the same pack at once make it once: the second waits.

    Args:
        source: what to read.
        spec: the pixels to make of it.
        work: the work folder; the pack goes to `packs/` in it.
        workers: reading processes; one per available CPU unless given.
        minimum: fewest readable images that make sense.

    Raises:
        InputError: fewer than `minimum` images, more than half of them unreadable, or a work
            folder that cannot be written.
        TrainingError: the disk is full, or processes cannot be started.
    """
    if len(source) < minimum:
        raise InputError(f"{len(source):,} images; at least {minimum} are needed. {source.summary}")
    check_start()
    name = fingerprint(source, spec)
    root = work / "packs" / name.removeprefix("sha256:")[:16]
    pack = _known(root, name) or _made(source, spec, root, name, workers or cpu_quota())
    if len(pack) < minimum:
        raise InputError(
            f"{len(pack):,} of {len(source):,} images could be read; at least {minimum} are "
            f"needed. {pack.rejected_csv} lists the others"
        )
    if pack.rejected:
        logger.warning(
            "%d of %d images cannot be read and are left out; %s says why",
            len(pack.rejected), len(source), pack.rejected_csv,
        )  # fmt: skip
    return pack


def _known(root: Path, name: str) -> Pack | None:
    """Return the pack in `root` if there is one to rely on."""
    if not (root / RECORD).exists():
        return None
    try:
        pack = Pack.load(root)
    except PackDamaged as error:
        logger.warning("%s; packing again", error)
        return None
    return pack if pack.fingerprint == name else None


def _made(source: Source, spec: ImageSpec, root: Path, name: str, workers: int) -> Pack:
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{root.parent} cannot be made: {error.strerror}; set HANDFUL_WORK to a folder that can"
        ) from error
    try:
        with _only_run(root):
            if pack := _known(root, name):  # another run has just made it
                return pack
            _remove_leftovers(root.parent)
            partial = root.with_suffix(PARTIAL)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                build_pack(source, spec, partial, name, workers)
                shutil.rmtree(root, ignore_errors=True)
                partial.rename(root)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            return Pack.load(root)
    except OSError as error:
        raise TrainingError(
            f"the pack cannot be written to {root.parent}: {error.strerror or error}; make room "
            f"there or set HANDFUL_WORK to another folder"
        ) from error


@contextmanager
def _only_run(root: Path) -> Iterator[None]:
    """Keep other runs from making the same pack meanwhile. A killed run holds no lock."""
    lock = FileLock(root.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("another run is reading the same images; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _remove_leftovers(packs: Path) -> None:
    """Remove what killed runs left of other packs; those of a living run are locked."""
    for partial in packs.glob(f"*{PARTIAL}"):
        lock = FileLock(partial.with_suffix(".lock"), timeout=0)
        try:
            with lock:
                shutil.rmtree(partial, ignore_errors=True)
        except Timeout:
            continue

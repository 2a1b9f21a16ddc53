"""A file that is there whole or not at all, and still there after the power failed."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file at `path`.

    One writer at a time: the temporary file beside it has one name, so that what a killed process
    left there is overwritten and does not stay.

    Raises:
        OSError: it cannot be written; what stood at `path` before is intact.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Return once the folder's names are on the disk, else a rename can be lost with the power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

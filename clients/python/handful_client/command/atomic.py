"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handful_client.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path`, which takes its place when the block succeeds.

    Until then, and if the block fails, what was there before stays. The content is on the disk
    before the name changes, so that a power cut cannot leave half of it either.

    Raises:
        InputError: nothing can be written there.
    """
    path = path.resolve()  # a link's target is replaced, not the link
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no plain file; name a file, or `-` for standard output")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise InputError(
            f"{path.parent}: {error.strerror or error}; name a folder that can be written to"
        ) from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(_mode(path))
        _sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _mode(path: Path) -> int:
    """Return the permissions of what is replaced, or of any new file: mkstemp's are private."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

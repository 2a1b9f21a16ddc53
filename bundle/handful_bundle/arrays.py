"""Named arrays as bytes (.npz) and back, from sources that are not trusted."""

import io
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_bundle.errors import BundleCorrupt

MAX_BYTES = 64 * 2**20
MAX_ARRAYS = 32


def pack_arrays(arrays: dict[str, NDArray[Any]]) -> bytes:
    """Return an uncompressed .npz; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack_arrays(data: bytes, file: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz, no object arrays, at most `MAX_BYTES` in all.

    Raises:
        BundleCorrupt: not such a file.
    """
    remedy = "export the bundle again"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry.file_size for entry in archive.infolist()]
        if sum(entries) <= MAX_BYTES and len(entries) <= MAX_ARRAYS:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
    except Exception as error:  # zipfile, zlib and numpy fail in many ways on bytes made to harm
        raise BundleCorrupt(
            f"{file}: not a plain .npz ({type(error).__name__}); {remedy}"
        ) from error
    raise BundleCorrupt(
        f"{file}: {len(entries)} arrays of {sum(entries)} bytes unpacked, at most {MAX_ARRAYS} of "
        f"{MAX_BYTES}; {remedy}"
    )

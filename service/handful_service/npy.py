"""NumPy's array file format (NEP 1) as a request and a response body. Never unpickles."""

import io
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from handful_service.errors import ServiceError

MEDIA_TYPE = "application/x-npy"
_MAX_HEADER = 4096  # bytes; a plain array's header has 118


def read_npy(body: bytes, dtype: type[np.generic], expected: str) -> NDArray[Any]:
    """Return the array in `body` without copying it.

    Args:
        body: a whole .npy file, version 1 or 2.
        dtype: what the array must hold.
        expected: the shape that is wanted, for the message.

    Raises:
        ServiceError: not such a file, another dtype, or not as long as its header says.
    """
    wanted = f"send {np.dtype(dtype).name} {expected}, as numpy.save writes it."
    file = io.BytesIO(body)
    try:
        version = npy_format.read_magic(file)
        read_header = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }[version]
        shape, fortran_order, found = read_header(file, max_header_size=_MAX_HEADER)
    except Exception as error:  # NumPy evaluates the header, which may fail in any way
        raise ServiceError("npy_invalid", f"Not an npy file; {wanted}") from error
    if found != np.dtype(dtype):
        raise ServiceError("npy_invalid", f"The array holds {found.name:.20}; {wanted}")
    size = found.itemsize
    for length in shape:  # Python integers: no overflow
        size *= length
    offset = file.tell()
    if size != len(body) - offset:
        raise ServiceError(
            "npy_invalid",
            f"The header announces {size} bytes and {len(body) - offset} follow; {wanted}",
        )
    flat = np.frombuffer(body, found, offset=offset)
    try:
        return flat.reshape(shape, order="F" if fortran_order else "C")
    except ValueError:  # negative lengths, more than NumPy counts up to, or too many
        raise ServiceError("npy_invalid", f"No array has such a shape; {wanted}") from None


def write_npy(array: NDArray[Any]) -> bytes:
    """Return `array` as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()

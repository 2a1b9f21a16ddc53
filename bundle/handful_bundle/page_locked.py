"""Host memory that a GPU reads and writes by itself; other memory is copied to such first.

CUDA's runtime is called directly: onnxruntime has page-locked memory of its own, but no way to it
from Python for the CUDA provider that it is built with.
"""

import ctypes
import math
import mmap
import os
import weakref

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LIBRARIES = ("libcudart.so.13", "libcudart.so.12")


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
    """Return an array of its own pages, locked where CUDA runs in this process.

    Elsewhere, and where the system locks no more, it is ordinary memory: slower, never wrong.
    """
    kind = np.dtype(dtype)
    size = max(1, math.prod(shape) * kind.itemsize)
    pages = mmap.mmap(-1, size)  # of whole pages, which no other array shares
    array = np.frombuffer(pages, kind, math.prod(shape)).reshape(shape)
    runtime = _runtime()
    if runtime is not None:
        address = ctypes.c_void_p(array.ctypes.data)
        if runtime.cudaHostRegister(address, ctypes.c_size_t(size), ctypes.c_uint(0)) == 0:
            weakref.finalize(array, runtime.cudaHostUnregister, address).atexit = False
        else:
            runtime.cudaGetLastError()  # forgets it: else onnxruntime's next check would find it
    return array


def _runtime() -> ctypes.CDLL | None:
    """Return CUDA's runtime as onnxruntime has loaded it; None where it has not."""
    loaded_only = getattr(os, "RTLD_NOLOAD", None)
    if loaded_only is None:  # not Linux
        return None
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name, mode=loaded_only | os.RTLD_NOW)
        except OSError:
            continue
    return None

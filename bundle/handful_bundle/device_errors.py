"""What an exception of onnxruntime says of the device.

Its classes name onnxruntime's own status and not the cause, so the text decides. It begins
otherwise on each platform, in each release and for each operator; the words and numbers below are
CUDA's, cuBLAS's, cuDNN's and the arena's own.
"""

import re
from typing import Literal

from handful_bundle.errors import DeviceFailed, DeviceOutOfMemory, DeviceUnavailable

Trouble = Literal["memory", "fatal", "other"]

_OUT_OF_MEMORY = 2
# CUDA Runtime API, `cudaError_t`: "any further CUDA work will return the same error. To continue
# using CUDA, the process must be terminated and relaunched", and memory or links beyond repair.
_FATAL = frozenset({214, 220, 700, 702, 710, *range(714, 720)})
_CUDA_NUMBER = re.compile(r"CUDA (?:failure|error) (\d+)")
_FAILURE = re.compile(r"\b(?:CUDA|CUDNN|CUBLAS|CUBLASLT|CURAND) failure \d+: [\w .-]*\w")
_MEMORY_WORDS = (
    "failed to allocate memory",  # onnxruntime's arena, at its own limit or the device's
    "is smaller than requested bytes",  # the same
    "out of memory",
    "status_alloc_failed",  # CUBLAS_, CUDNN_, CUSOLVER_ …
    "allocation_failed",  # CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
)


def trouble(error: BaseException) -> Trouble:
    """Return what `error` means for the device.

    Returns:
        `memory`: fewer rows at once may do. `fatal`: nothing will run in this process any more.
        `other`: it says nothing of the device, which may yet have failed: `CUBLAS failure 13` and
        `CUDNN failure 4` follow fatal errors, and also stand alone.
    """
    if isinstance(error, (DeviceFailed, DeviceUnavailable)):
        return "fatal"
    if isinstance(error, (DeviceOutOfMemory, MemoryError)):
        return "memory"
    text = str(error)
    numbers = {int(number) for number in _CUDA_NUMBER.findall(text)}
    if numbers & _FATAL:
        return "fatal"
    lower = text.lower()
    if _OUT_OF_MEMORY in numbers or any(words in lower for words in _MEMORY_WORDS):
        return "memory"
    return "other"


def device_words(error: BaseException) -> str | None:
    """Return what CUDA or a library of its says in `error`, as in `CUDA failure 100: no device`."""
    found = _FAILURE.search(str(error))
    return None if found is None else found[0]

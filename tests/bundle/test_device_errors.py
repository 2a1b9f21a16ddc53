"""What onnxruntime's messages say of the device. The texts are from reports of its users."""

import pytest

from handful_bundle.device_errors import device_words, trouble
from handful_bundle.errors import DeviceFailed, DeviceOutOfMemory, DeviceUnavailable

ARENA = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv "
    "node. Name:'/patch_embed/stages/stages.0/blocks/blocks.0/mlp/fc1/Conv' Status Message: "
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* onnxruntime::BFCArena::"
    "AllocateRawInternal(size_t, bool, onnxruntime::Stream*, bool, onnxruntime::WaitNotificationFn)"
)
CUDA_CALL = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:121 std::conditional_t<THRW, "
    "void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, const char*, "
    "ERRTYPE, const char*, const char*, int)"
)
MEMORY = {
    "arena": f"{ARENA} Failed to allocate memory for requested buffer of size 4585490524328388608",
    "limit": f"{ARENA} Available memory of 0 is smaller than requested bytes of 134217728",
    "stream": (
        r"[ONNXRuntimeError] : 1 : FAIL : D:\a\_work\1\s\onnxruntime\core\providers\cuda"
        r"\cuda_call.cc:121 onnxruntime::CudaCall CUDA failure 2: out of memory ; GPU=0 ; "
        "hostname=DESKTOP ; file=cuda_stream_handle.cc ; line=175 ; "
        "expr=cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);"
    ),
    "cublas": (
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: "
        f"{CUDA_CALL} CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=egg ; "
        "file=cuda_execution_provider.cc ; line=164 ; expr=cublasCreate(&cublas_handle_);"
    ),
    "cudnn": (
        "[ONNXRuntimeError] : 1 : FAIL : CUDNN failure 4002: "
        "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0 ; expr=cudnnCreate(&handle);"
    ),
}
FATAL = {
    "copy": (
        "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 719: unspecified launch failure ; GPU=0 ; "
        r"hostname=H ; file=D:\a\_work\1\s\onnxruntime\core\providers\cuda\gpu_data_transfer.cc ; "
        "line=73 ; expr=cudaMemcpyAsync(dst_data, src_data, bytes, cudaMemcpyDeviceToHost, s);"
    ),
    "address": (
        "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700: an illegal memory access was "
        "encountered ; GPU=0 ; hostname=hemantj-X299-A ; expr=cudaMemcpy(dst_data, src_data, "
        "bytes, cudaMemcpyHostToDevice);"
    ),
    "alignment": (
        r"D:\onnxruntime\onnxruntime\core\providers\cuda\cuda_call.cc:114 onnxruntime::CudaCall "
        "CUDA failure 716: misaligned address ; GPU=0 ; hostname=3adf4d6fc000000 ; "
        "file=cuda_execution_provider.cc ; line=241 ; expr=cudaDeviceSynchronize();"
    ),
    "while allocating": (
        f"{ARENA} CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; "
        "expr=cudaMalloc((void**)&p, size); out of memory"
    ),
}
OTHER = {
    "operator": (
        "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Non-zero status code returned while running "
        "Gather node. Name:'Gather_1' Status Message: indices element out of data bounds, idx=700 "
        "must be within the inclusive range [-10,9]"
    ),
    "argument": (
        "Einsum op: Transpose failed: CUDA failure 1: invalid argument ; GPU=1 ; "
        "expr=cudaMemcpyAsync(output.MutableDataRaw(), input.DataRaw(), 716, stream);"
    ),
    "cublas": (
        "Non-zero status code returned while running Gemm node. Name:'Gemm_568' Status Message: "
        "CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0 ; hostname=LED-PC ; "
        "file=gemm.cc ; line=121 ; expr=cublasGemmHelper(GetCublasHandle(ctx), CUBLAS_OP_N);"
    ),
}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        pytest.param(kind, text, id=f"{kind}-{name}")
        for kind, texts in {"memory": MEMORY, "fatal": FATAL, "other": OTHER}.items()
        for name, text in texts.items()
    ],
)
def test_messages_are_told_apart(kind: str, text: str) -> None:
    """Too little memory, a context that is lost, and everything else, as users have met them; a
    number that is no CUDA error does not count, and a lost context outweighs memory.
    """
    assert trouble(RuntimeError(text)) == kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "memory"),
        (DeviceOutOfMemory("full"), "memory"),
        (DeviceFailed("gone"), "fatal"),
        (DeviceUnavailable("gone"), "fatal"),
    ],
)
def test_classes_are_told_apart(error: Exception, kind: str) -> None:
    """C++'s `bad_alloc` arrives as Python's MemoryError; what has been judged stays judged."""
    assert trouble(error) == kind


def test_the_libraries_own_words_are_found() -> None:
    """What CUDA said is cut out of a message, for a line that somebody reads, if it is there."""
    text = f"{CUDA_CALL} CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; expr=x;"
    assert device_words(RuntimeError(text)) == (
        "CUDA failure 100: no CUDA-capable device is detected"
    )
    assert device_words(RuntimeError(OTHER["operator"])) is None

"""Open an ONNX graph on the device that was asked for, and on no other.

onnxruntime silently runs on the CPU when CUDA cannot be loaded, when single operators have no CUDA
kernel, and after some failures of a run; and it sizes its thread pool from the machine instead of
from the container. All of this is decided here instead.
"""

import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import onnxruntime as ort

from handful_bundle.device_errors import device_words, trouble
from handful_bundle.errors import BundleCorrupt, DeviceOutOfMemory, DeviceUnavailable

Device = Literal["auto", "cpu", "cuda"]
Provider = Literal["cpu", "cuda"]

_PROVIDERS: dict[str, Provider] = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
}
# HEURISTIC: a new shape costs 2 ms instead of 600; kSameAsRequested: the arena does not double;
# TF32 off: parity with the CPU to 1e-3.
_CUDA_OPTIONS = {
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
    "use_tf32": "0",
    "do_copy_in_default_stream": "1",
}

# Key and refusal of onnxruntime's option to fail where it would put an operator on the CPU.
_NO_CPU = "session.disable_cpu_ep_fallback"
_NO_CPU_REFUSAL = "fallback to CPU EP has been explicitly disabled"
_WHO_RUNS_WHAT = "session.record_ep_graph_assignment_info"

_log = logging.getLogger(__name__)


def cpu_quota(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many CPUs this process may keep busy: the least of machine, affinity and cgroup.

    Args:
        cgroup: where the control group of this process is mounted, version 2 or 1.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([cpus, *_cgroup_limits(cgroup)]))


def _cgroup_limits(cgroup: Path) -> list[int]:
    limits = []
    for quota_file, period_file in (
        (cgroup / "cpu.max", None),
        (cgroup / "cpu" / "cpu.cfs_quota_us", cgroup / "cpu" / "cpu.cfs_period_us"),
    ):
        try:
            words = quota_file.read_text().split()
            if period_file is not None:
                words += period_file.read_text().split()
            quota, period = words
            if quota not in ("max", "-1"):
                limits.append(math.ceil(int(quota) / int(period)))
        except (OSError, ValueError, ZeroDivisionError):
            continue  # no such controller here: no limit from it
    return limits


def open_session(
    model: bytes,
    device: Device = "auto",
    threads: int | None = None,
    gpu_memory_bytes: int | None = None,
) -> ort.InferenceSession:
    """Open a graph whose bytes have been checked already.

    Args:
        model: a serialised ONNX model without external data.
        device: `cuda` fails where CUDA does not run; `auto` uses it where it does and logs
            when a GPU is there but unusable.
        threads: CPU threads for one run; by default `cpu_quota()`.
        gpu_memory_bytes: that the graph may take of a GPU; by default all that there is.

    Raises:
        DeviceUnavailable: CUDA was asked for and does not run here.
        DeviceOutOfMemory: there is no room for the graph.
        BundleCorrupt: onnxruntime cannot open the graph.
    """
    if device == "cpu" or (device == "auto" and not _gpu_visible()):
        return _open(model, "cpu", threads)
    remedy = "install handful[gpu] and the NVIDIA driver for CUDA 13, or ask for the device `cpu`"
    if not _gpu_visible():  # else onnxruntime would print its own lines about it
        reason = "no NVIDIA GPU is visible here"
    elif "CUDAExecutionProvider" not in ort.get_available_providers():
        reason = "this onnxruntime has no CUDA provider"
    else:
        try:
            return _open_on_gpu(model, gpu_memory_bytes)
        except DeviceUnavailable as error:
            reason = str(error)
    if device == "cuda":
        raise DeviceUnavailable(f"{reason}; {remedy}")
    _log.warning("a GPU is visible, but %s; running on the CPU; %s", reason, remedy)
    return _open(model, "cpu", threads)


def provider(session: ort.InferenceSession) -> Provider:
    """Return the provider that really runs `session`."""
    return _PROVIDERS[session.get_providers()[0]]


def _gpu_visible() -> bool:
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def _open_on_gpu(model: bytes, memory_bytes: int | None) -> ort.InferenceSession:
    ort.preload_dlls(directory="")
    options = {**_CUDA_OPTIONS}
    if memory_bytes is not None:
        options["gpu_mem_limit"] = str(memory_bytes)
    cuda = ("CUDAExecutionProvider", options)
    try:
        return _open(model, "cuda", None, [cuda], {_NO_CPU: "1"})
    except BundleCorrupt as error:
        if _NO_CPU_REFUSAL not in str(error.__cause__):
            raise
    # Either CUDA does not start, or a few operators have no kernel for it: which of the two?
    session = _open(model, "cuda", None, [cuda, "CPUExecutionProvider"], {_WHO_RUNS_WHAT: "1"})
    if provider(session) != "cuda":
        raise DeviceUnavailable("onnxruntime could not start CUDA and would run on the CPU")
    on_cpu = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == "CPUExecutionProvider"
        for node in part.get_nodes()
    }
    _log.warning("on the CPU, between those on the GPU, run: %s", ", ".join(sorted(on_cpu)))
    return session


def _open(
    model: bytes,
    kind: Provider,
    threads: int | None,
    providers: Sequence[Any] = ("CPUExecutionProvider",),
    entries: Mapping[str, str] = MappingProxyType({}),
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors reach us as exceptions or as the provider that runs
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = 1 if kind == "cuda" else threads or cpu_quota()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # as was checked
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    try:
        # Without `enable_fallback=0` an error while opening or running would end on the CPU.
        return ort.InferenceSession(model, options, providers=list(providers), enable_fallback=0)
    except Exception as error:  # onnxruntime raises its own unrelated classes
        if kind == "cuda" and trouble(error) == "memory":
            raise DeviceOutOfMemory(
                "the GPU's memory, or HANDFUL_GPU_MEMORY_BYTES of it, does not hold the model; "
                "free some, or serve a smaller model"
            ) from error
        if kind == "cuda" and (words := device_words(error)) is not None:
            raise DeviceUnavailable(f"CUDA does not start ({words})") from error
        raise BundleCorrupt(
            f"onnxruntime cannot open the graph ({type(error).__name__}); export the bundle again"
        ) from error

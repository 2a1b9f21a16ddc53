"""Open an ONNX graph on the device that was asked for, and on no other.

onnxruntime silently runs on the CPU when CUDA cannot be loaded, and sizes its thread pool from
the machine instead of from the container. Both are decided here instead.
"""

import logging
import math
import os
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

from handful_bundle.errors import BundleCorrupt, DeviceUnavailable

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
    model: bytes, device: Device = "auto", threads: int | None = None
) -> ort.InferenceSession:
    """Open a graph whose bytes have been checked already.

    Args:
        model: a serialised ONNX model without external data.
        device: `cuda` fails where CUDA does not run; `auto` uses it where it does and logs
            when a GPU is there but unusable.
        threads: CPU threads for one run; by default `cpu_quota()`.

    Raises:
        DeviceUnavailable: CUDA was asked for and does not run here.
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
        ort.preload_dlls(directory="")
        session = _open(model, "cuda", threads)
        if provider(session) == "cuda":
            return session
        reason = "onnxruntime could not start CUDA and would run on the CPU"
    if device == "cuda":
        raise DeviceUnavailable(f"{reason}; {remedy}")
    _log.warning("a GPU is visible, but %s; running on the CPU; %s", reason, remedy)
    return _open(model, "cpu", threads)


def provider(session: ort.InferenceSession) -> Provider:
    """Return the provider that really runs `session`."""
    return _PROVIDERS[session.get_providers()[0]]


def _gpu_visible() -> bool:
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def _open(model: bytes, kind: Provider, threads: int | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors reach us as exceptions or as the provider that runs
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = 1 if kind == "cuda" else threads or cpu_quota()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = ["CPUExecutionProvider"]
    if kind == "cuda":
        providers = [("CUDAExecutionProvider", _CUDA_OPTIONS), *providers]
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except Exception as error:  # onnxruntime raises its own unrelated classes
        raise BundleCorrupt(
            f"onnxruntime cannot open the graph ({type(error).__name__}); export the bundle again"
        ) from error

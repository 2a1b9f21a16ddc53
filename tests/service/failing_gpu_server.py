"""`handful-serve` on a GPU that fails when it is told to. Tests start it.

    FAULT=FILE python failing_gpu_server.py --model BUNDLE …

Everything is real but onnxruntime's session, the one seam to the GPU: it says CUDA, runs on the
CPU, and while FILE exists fails as its JSON says: `text` in batches of more than `above` rows. A
text that is `lasting` empties the file, and this process fails with it from then on.
"""

import json
import os
from pathlib import Path
from typing import Any

from handful_service.supervisor import supervise

POST = supervise()  # below, only in the process that serves

import onnxruntime as ort  # noqa: E402 - the supervisor stays without it, as in the real command

from handful_bundle import session  # noqa: E402
from handful_service.server import serve  # noqa: E402

FILE = Path(os.environ["FAULT"])
RealSession = ort.InferenceSession


class Binding(ort.IOBinding):
    rows = 0

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        self.rows = len(arr_on_cpu)
        super().bind_cpu_input(name, arr_on_cpu)


class GpuSession(RealSession):
    lost: str | None = None

    def __init__(self, model: bytes, *_: Any, providers: Any, **__: Any) -> None:
        assert providers[0][0] == "CUDAExecutionProvider"
        super().__init__(model, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def io_binding(self) -> Binding:
        return Binding(self)

    def run_with_iobinding(self, iobinding: Any, run_options: Any = None) -> None:
        text = FILE.read_text() if FILE.exists() else ""
        fault = json.loads(text) if text else {"above": 10**9}
        if fault.get("lasting"):
            GpuSession.lost = fault["text"]
            FILE.write_text("")
        if GpuSession.lost is not None:
            raise RuntimeError(GpuSession.lost)
        if iobinding.rows > fault["above"]:
            raise RuntimeError(fault["text"])
        super().run_with_iobinding(iobinding, run_options)


ort.InferenceSession = GpuSession
ort.preload_dlls = lambda **_: None
session._gpu_visible = lambda: True
serve(None, POST)

"""Load a bundle in a process of its own: a model that crashes or hangs takes nobody along.

    python -m handful_bundle.trial FOLDER --memory BYTES --seconds S

Ends with 0 where the bundle loads and runs its largest batch on the CPU; with `REFUSED` where it
is refused, and says why on stdout; in any other way where it broke something.
"""

import argparse
import contextlib
import os
import resource
import sys
from pathlib import Path

REFUSED = 3


def main() -> int:
    """Load the bundle that the command line names."""
    parser = argparse.ArgumentParser(prog="handful_bundle.trial", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--memory", type=int, required=True, help="bytes that it may take")
    parser.add_argument("--seconds", type=int, required=True, help="CPU time that it may take")
    options = parser.parse_args()
    _limit(options.memory, options.seconds)
    # Only now: what is imported counts towards the limits.
    from handful_bundle.errors import HandfulError  # noqa: PLC0415

    try:
        _run(options.folder)
    except (HandfulError, MemoryError) as error:
        text = str(error) or (
            f"it does not fit into the {options.memory} bytes of memory that are left; give the "
            "service more, or export a smaller model"
        )
        sys.stdout.write(text)
        return REFUSED
    return 0


def _run(folder: Path) -> None:
    import numpy as np  # noqa: PLC0415 - after the limits are set

    from handful_bundle.batches import BUCKETS  # noqa: PLC0415
    from handful_bundle.bundle import Bundle  # noqa: PLC0415
    from handful_bundle.errors import BundleCorrupt  # noqa: PLC0415

    bundle = Bundle.load(folder, device="cpu", threads=1)
    try:
        encoding = bundle.encoder(np.zeros((BUCKETS[-1], *bundle.encoder.spec.shape), np.uint8))
        if bundle.head is not None:
            bundle.head.judge(encoding.embedding)
        if bundle.decoder is not None:
            bundle.decoder(encoding.mean)
    except Exception as error:  # onnxruntime raises its own unrelated classes
        raise BundleCorrupt(
            f"{folder}: a batch of {BUCKETS[-1]} does not run ({type(error).__name__}): too "
            "little memory, or a graph at fault; give the service more, or export a smaller model"
        ) from error


def _limit(memory: int, seconds: int) -> None:
    for kind, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),  # it has nothing to write
    ):
        _, hard = resource.getrlimit(kind)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError):  # a system that knows no such limit
            resource.setrlimit(kind, (least, least))
    with contextlib.suppress(OSError):  # where memory runs out all the same, this process goes
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(OSError):
        os.nice(5)  # requests go first


if __name__ == "__main__":
    sys.exit(main())

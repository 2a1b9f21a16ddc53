"""The limit: decode, shrink and run the model in one process without HTTP, at its best batch size.

python serving_limit.py BUNDLE FOLDER prints CPU milliseconds per image.
"""

import sys
import time
from pathlib import Path

import numpy as np

from handful_bundle.bundle import Bundle
from handful_bundle.pixels import decode

BATCHES = (1, 8, 16, 32, 64)
CPU_SECONDS = 1


def main() -> None:
    """Measure."""
    bundle = Bundle.load(Path(sys.argv[1]), device="cpu", threads=1)
    files = [path.read_bytes() for path in sorted(Path(sys.argv[2]).iterdir())]
    spec = bundle.manifest.image

    def milliseconds(size: int) -> float:
        count, begun = 0, time.process_time()
        while (spent := time.process_time() - begun) < CPU_SECONDS:
            pixels = [decode(files[(count + i) % len(files)], spec) for i in range(size)]
            bundle.encoder(np.stack(pixels))
            count += size
        return 1000 * spent / count

    milliseconds(1)  # warm
    print(min(milliseconds(size) for size in BATCHES))


if __name__ == "__main__":
    main()

"""Name the pixels that would be packed, without reading the images."""

import hashlib
import json

from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import PIXELS_VERSION
from handful_training.progress import progress
from handful_training.sources.source import Source

STEP = 1024


def fingerprint(source: Source, spec: ImageSpec) -> str:
    """Return a digest that changes when an image, the list of images or their way to pixels does.

    Files count with name, size and times, an idx file with its content.
    """
    head = {
        "kind": source.kind,
        "count": len(source),
        "image": spec.model_dump(),
        "pixels_version": PIXELS_VERSION,
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    with progress(len(source), desc="Looking for changes") as bar:
        for start in range(0, len(source), STEP):
            stop = min(start + STEP, len(source))
            for i in range(start, stop):
                # NUL ends both: no name of a file holds one.
                entry = f"{source.keys[i]}\0{source.stat_token(i)}\0"
                digest.update(entry.encode(errors="surrogateescape"))
            bar.update(stop - start)
    return f"sha256:{digest.hexdigest()}"

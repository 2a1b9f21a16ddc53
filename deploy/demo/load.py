"""Classify images through the SDK and count what happens to each, also while models change."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from handful_client import Handful, HandfulError

BATCH = 64  # images in one request


@dataclass
class Tally:
    """What one or more passes over the images brought."""

    labels: dict[int, str] = field(default_factory=dict)  # image -> label, from the last pass
    versions: Counter[str] = field(default_factory=Counter)  # model version -> images it answered
    failures: list[str] = field(default_factory=list)  # one line per failed request or image
    seconds: float = 0.0

    @property
    def answered(self) -> int:
        """Images that were classified, over all passes."""
        return self.versions.total()

    def accuracy(self, truth: Sequence[int] | NDArray[np.uint8]) -> float:
        """Return the share of images in [0, 1] whose label is the true one; no answer is wrong."""
        right = sum(self.labels.get(i) == str(label) for i, label in enumerate(truth))
        return right / len(truth)

    def wait_for(self, version: str, seconds: float) -> bool:
        """Return whether `version` answers within so many seconds. Another thread does the load."""
        deadline = time.monotonic() + seconds
        while not self.versions[version]:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def classify(
    client: Handful,
    images: NDArray[np.uint8],
    tally: Tally,
    *,
    stop: threading.Event | None = None,
    in_flight: int | None = None,
) -> None:
    """Classify `images` [N, H, W] once, in order, unless stopped; add what happened to `tally`.

    A failed request ends the SDK's stream: it is counted, and a new stream takes up behind it.

    Args:
        client: retries nothing by itself, or failures would go unseen.
        images: uint8 pixels.
        tally: counts on while this runs; another thread may look at it.
        stop: ends the pass early.
        in_flight: requests at once; None for the SDK's default.
    """
    stop = stop or threading.Event()
    start = time.perf_counter()
    begin = 0
    while begin < len(images) and not stop.is_set():
        following = begin
        try:
            rest = list(images[begin:])
            for item in client.classify_stream(rest, batch_size=BATCH, in_flight=in_flight):
                if stop.is_set():
                    break
                index = begin + item.index
                following = index + 1
                if item.prediction is None:
                    tally.failures.append(str(item.error))
                else:
                    tally.versions[item.model.version] += 1
                    tally.labels[index] = item.prediction.label
        except HandfulError as error:
            tally.failures.append(f"{type(error).__name__}: {error}")
            following += BATCH
        begin = following
    tally.seconds += time.perf_counter() - start


@contextlib.contextmanager
def load(client: Handful, images: NDArray[np.uint8]) -> Iterator[Tally]:
    """Classify `images` over and over in a thread; leaving the block stops it.

    One request follows the other, so that a second process on this machine also gets on.
    """
    tally = Tally()
    stop = threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            classify(client, images, tally, stop=stop, in_flight=1)

    with ThreadPoolExecutor(1, "load") as pool:
        running = pool.submit(repeat)
        try:
            yield tally
        finally:
            stop.set()
            running.result()  # what surprised the thread surprises the caller

"""A large request beside small ones: nobody waits for more than the batch that runs."""

import asyncio
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_bundle.bundle import Bundle
from handful_service.context import RequestContext
from handful_service.decoding import DecodePool, EncodedImage
from handful_service.inputs import Images, Pixels
from handful_service.metrics import Metrics
from handful_service.pipeline import Pipeline
from handful_service.serving import Models, Served
from handful_service.settings import Settings
from handful_service.work import Columns

LARGE = 4096  # images: as many as one request may hold
SMALL = 8


def test_single_images_are_in_the_next_batch(bundle_dir, picture) -> None:
    """Images that arrive one by one while 4,096 of one request run are all in the next batch,
    files and pixels alike.
    """
    models, metrics = Models(), Metrics()
    served = Served(Bundle.load(bundle_dir, device="cpu", threads=1), "1")
    models.swap(served)
    shape = served.bundle.manifest.image.shape
    batches: list[list[bool]] = []  # of each row, whether it is one of the 4,096
    entered, gate = threading.Event(), threading.Event()

    def lane(*parts: NDArray[Any]) -> Columns:
        entered.set()
        assert gate.wait(60)
        batches.append([not row.any() for rows in parts for row in rows])
        return served.encode(*parts)

    async def main() -> None:
        pipeline = Pipeline(Settings(), models, metrics, 1)
        pipeline.start()

        async def ask(taken: Images | Pixels) -> int:
            with pipeline.backlog.enter() as entry:
                context = RequestContext("id", {}, entry)
                results = await pipeline.images(context, served, taken, lane)
            return len(results.index)

        try:
            large = asyncio.create_task(ask(Pixels(np.zeros((LARGE, *shape), np.uint8))))
            assert await asyncio.to_thread(entered.wait, 60)
            bright = np.full((1, *shape), 255, np.uint8)
            file = EncodedImage(picture(), "image/jpeg")
            small = [Images([file], single=True), Pixels(bright)] * (SMALL // 2)
            asked = [asyncio.create_task(ask(taken)) for taken in small]
            await asyncio.sleep(0.05)  # all of them hand over in the next rounds of the loop
            gate.set()
            assert await asyncio.gather(*asked) == [1] * SMALL
            assert await large == LARGE
        finally:
            gate.set()
            pipeline.close()

    asyncio.run(main())
    assert batches[0] == [True] * 32
    assert batches[1].count(False) == SMALL
    assert len(batches[1]) == 32  # and the large one fills what they leave
    assert sum(row for batch in batches for row in batch) == LARGE


def test_a_single_image_does_not_wait_for_all_others_to_be_decoded(bundle_dir, picture) -> None:
    """With one thread, an image that arrives behind 4,096 of one request is decoded after a few
    pieces of it.
    """
    spec = Bundle.load(bundle_dir, device="cpu", threads=1).manifest.image
    large = EncodedImage(picture(width=120, height=120, kind="PNG"), "image/png")  # about 43 kB
    not_decoded: list[int] = []

    async def main() -> None:
        pool = DecodePool(1, 10**6, not_decoded.append)
        try:
            others = asyncio.create_task(pool.decode([large] * LARGE, spec))
            await asyncio.sleep(0)
            await pool.decode([large], spec)
            others.cancel()
            await asyncio.gather(others, return_exceptions=True)
        finally:
            pool.close()

    asyncio.run(main())
    assert LARGE - not_decoded[0] <= 8 * 8

"""Laws of the one timer for all."""

import asyncio

from handful_service.deadlines import Deadlines


def test_each_is_over_once_and_in_time() -> None:
    """What was removed is never over; what was not is over once, in order, and not too early."""

    async def add_and_remove() -> tuple[list[int], list[float]]:
        over: list[int] = []
        after: list[float] = []
        loop = asyncio.get_running_loop()
        added: dict[int, float] = {}

        def note(number: int) -> None:
            over.append(number)
            after.append(loop.time() - added[number])

        deadlines = Deadlines(0.1, note)
        for number in range(60):
            added[number] = loop.time()
            deadlines.add(number)
            if number % 3 == 0:
                deadlines.remove(number)
            if number % 10 == 9:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        added[60] = loop.time()
        deadlines.add(60)  # when the timer has had its last
        await asyncio.sleep(0.4)
        deadlines.remove(7)  # over already
        return over, after

    over, after = asyncio.run(add_and_remove())
    assert over == [number for number in range(61) if number % 3 or number == 60]
    assert min(after) >= 0.1

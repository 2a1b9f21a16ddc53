"""Random numbers that depend on the seed and the step alone.

What a step draws follows neither from the steps before it nor from the number of processes: a
training that is continued, even on other hardware, draws what it would have drawn. Each process
draws for the whole batch and keeps what belongs to its own rows.
"""

from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

_TENSORS = 2  # tells this use of the seed from others


class Part(NamedTuple):
    """The rows `start` to `stop` of a batch of `whole`: those that this process has."""

    start: int
    stop: int
    whole: int

    @classmethod
    def of(cls, whole: int, rank: int, size: int) -> Self:
        """Return part `rank` of `size` parts that differ by at most one row."""
        return cls(whole * rank // size, whole * (rank + 1) // size, whole)

    @property
    def rows(self) -> slice:
        """Where this part is in the batch."""
        return slice(self.start, self.stop)

    def every(self, n: int, offset: int) -> tuple[slice, "Part"]:
        """Return which of this part's rows are among every `n`-th of the batch, from `offset` on.

        Returns:
            Where they are in this part, and which part they are of all that are chosen.
        """
        start, stop, whole = (-(-(end - offset) // n) for end in self)
        return slice(start * n + offset - self.start, None, n), Part(start, stop, whole)


class Draws:
    """The random numbers of one training."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device)
        self._seed = seed

    def begin(self, step: int) -> None:
        """Go to the numbers of `step`."""
        (state,) = np.random.SeedSequence((self._seed, step, _TENSORS)).generate_state(1)
        self.generator.manual_seed(int(state))

    def normal(self, part: Part, columns: int) -> Tensor:
        """Return this part's rows of standard normal numbers, float32 [rows, columns]."""
        shape = (part.whole, columns)
        drawn = torch.randn(shape, generator=self.generator, device=self.generator.device)
        return drawn[part.rows]

"""Whether labelled images stand for those to come: drawn at random, or chosen by a strategy.

A strategy looks for images that teach much: hard ones, or typical ones. What is measured on them
is true of images like them, and of no others. Knows no predictions.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from handful_training.labels.labels import AUDIT


@dataclass(frozen=True)
class Fairness:
    """What is known of how labelled images were chosen.

    Attributes:
        chosen_by: how many by each strategy; `AUDIT` is chance, "" is not known.
    """

    chosen_by: dict[str, int]

    @classmethod
    def of(cls, chosen_by: Sequence[str], count: int) -> Self:
        """Count `chosen_by` of `count` labels; empty where nothing is known of any."""
        return cls(dict(sorted(Counter(chosen_by or [""] * count).items())))

    @property
    def random(self) -> bool | None:
        """Whether all were drawn at random; None where it is known of none that they were not."""
        if set(self.chosen_by) == {AUDIT}:
            return True
        return False if set(self.chosen_by) - {AUDIT, ""} else None

    def warning(self) -> str | None:
        """Say what the figures are worth, where they are known to be of chosen images."""
        if self.random is not False:
            return None
        chosen = {how: n for how, n in self.chosen_by.items() if how not in {AUDIT, ""}}
        names = ", ".join(f"{how} {n:,}" for how, n in chosen.items())
        total = sum(self.chosen_by.values())
        return (
            f"{sum(chosen.values()):,} of {total:,} labels were chosen by a strategy ({names}): "
            "figures on them are not those on all images; label some that "
            "`handful-train suggest --audit` draws at random"
        )

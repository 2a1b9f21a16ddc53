"""How a run of the bench goes: what all its parts share."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from serving_records import Records


class Plan(NamedTuple):
    """Where, how often and how long to measure."""

    work: Path  # virtual environments, models, logs, records
    cores: Sequence[int]  # that may be used; servers on one core take the first
    rounds: int
    seconds: int  # of each load in each round
    records: Records

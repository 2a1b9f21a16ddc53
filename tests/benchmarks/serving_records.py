"""What was measured, kept as it comes, and the Markdown that is made of it."""

import csv
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from serving_load import Cost, ServerFailed

NOTHING = "–"
GIVE_UP = 3  # failures, after which a server is left alone


class Key(NamedTuple):
    """What a figure tells of; a part leaves empty what it does not vary."""

    part: str
    server: str
    case: str = ""
    load: str = ""


class Records:
    """Every figure of every round, on disk as soon as it is known."""

    def __init__(self, path: Path) -> None:
        self.failures: list[str] = []
        self._failed: dict[str, int] = {}
        self._found: dict[tuple[Key, str], list[float]] = {}
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._write((*Key._fields, "figure", "value"))

    def add(self, key: Key, **figures: float) -> None:
        """Keep figures, and say them on stderr."""
        for name, value in figures.items():
            self._found.setdefault((key, name), []).append(value)
            self._write((*key, name, value))
        said = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        sys.stderr.write(f"{' | '.join(part for part in key if part)}: {said}\n")

    def attempt(self, server: str, part: str, measure: Callable[[], None]) -> None:
        """Measure a server; if it fails, say so and let the others go on."""
        if self._failed.get(server, 0) >= GIVE_UP:
            return
        try:
            measure()
        except ServerFailed as error:
            self._failed[server] = self._failed.get(server, 0) + 1
            given_up = self._failed[server] == GIVE_UP
            ending = "; it is left out from here on" if given_up else ""
            self.failures.append(f"{server} failed in {part}{ending}: {error}")
            sys.stderr.write(f"{self.failures[-1]}\n")

    def values(self, key: Key, figure: str) -> list[float]:
        """Return what was found in each round."""
        return self._found.get((key, figure), [])

    def median(self, key: Key, figure: str) -> float | None:
        """Return the median over rounds, if there is one."""
        values = self.values(key, figure)
        return statistics.median(values) if values else None

    def _write(self, row: Iterable[object]) -> None:
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)

    def keep(self, key: Key, cost: Cost) -> None:
        """Keep what a load cost; where requests failed, only how many.

        Raises:
            ServerFailed: some did.
        """
        if not cost.failed:
            self.add(key, **cost._asdict())
            return
        self.add(key, requests=cost.requests, failed=cost.failed)
        raise ServerFailed(f"{key.load}: {cost.failed} of {cost.requests} requests failed")

    def total(self, figure: str, part: str, case: str = "") -> float:
        """Return the sum over servers, loads and rounds."""
        return sum(value for _, value in self._of(figure, part, case))

    def highest(self, figure: str, part: str, case: str = "") -> tuple[Key, float] | None:
        """Return the highest, and whose it is."""
        return max(self._of(figure, part, case), key=lambda one: one[1], default=None)

    def _of(self, figure: str, part: str, case: str) -> Iterator[tuple[Key, float]]:
        for (key, name), values in self._found.items():
            if (name, key.part, key.case) == (figure, part, case):
                yield from ((key, value) for value in values)


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(row)} |" for row in body]
    return "\n".join(lines)


def number(value: float | None, form: str) -> str:
    """Return a number as text, or a dash where there is none."""
    return NOTHING if value is None else format(value, form)

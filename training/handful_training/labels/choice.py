"""Which labels a command was given, before anything is read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LabelChoice:
    """`--labels`, `--labels-per-class` and `--seed`."""

    spec: str
    per_class: int | None = None
    seed: int = 0

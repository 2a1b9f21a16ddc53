"""One row of a command's output, and the cells that it has in a table."""

import json
from dataclasses import dataclass
from typing import Any

from handful_client.wire import ItemError, Prediction

CLASSIFY_COLUMNS = (
    "path",
    "label",
    "confidence",
    "prediction_set",
    "novelty",
    "abstained",
    "reason",
    "probabilities",
    "error",
)


@dataclass(frozen=True)
class Record:
    """One file with its embedding or its prediction, or with its error."""

    path: str
    embedding: Any = None
    prediction: Prediction | None = None
    error: ItemError | None = None

    @property
    def error_text(self) -> str | None:
        """The error in one cell."""
        return None if self.error is None else f"{self.error.code}: {self.error.detail}"

    def as_dict(self) -> dict[str, Any]:
        """Return the record as JSON holds it."""
        found: dict[str, Any] = {"path": self.path}
        if self.prediction is not None:
            found |= self.prediction.model_dump(mode="json")
        elif self.embedding is not None:
            found["embedding"] = [float(f"{number:.9g}") for number in self.embedding]
        found["error"] = self.error_text
        return found


def classify_cells(record: Record) -> dict[str, Any]:
    """Return the record by `CLASSIFY_COLUMNS`; what nests is JSON text."""
    cells: dict[str, Any] = dict.fromkeys(CLASSIFY_COLUMNS)
    cells |= record.as_dict()
    for name in ("prediction_set", "probabilities"):
        if cells[name] is not None:
            cells[name] = json.dumps(cells[name], ensure_ascii=False)
    return cells

"""Parquet by row groups: memory holds one group. The schema's metadata names the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handful_client import extras
from handful_client.command.atomic import replacing
from handful_client.command.records import CLASSIFY_COLUMNS, Record
from handful_client.wire import ModelRef

_GROUP = 4096  # rows


class ParquetOutput:
    """Gathers records into row groups.

    Args:
        path: the file, which is overwritten.
        dim: numbers in an embedding; None when classifying.
        model: who answers.
    """

    def __init__(self, path: Path, dim: int | None, model: ModelRef) -> None:
        self._arrow = extras.need("pyarrow", "parquet", "writing Parquet")
        parquet = extras.need("pyarrow.parquet", "parquet", "writing Parquet")
        self._dim = dim
        self._schema = self._make_schema(model)
        self._writer = parquet.ParquetWriter(path, self._schema)
        self._records: list[Record] = []

    def write(self, record: Record) -> None:
        """Take one record."""
        self._records.append(record)
        if len(self._records) == _GROUP:
            self._write_group()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if kind is None and self._records:
            self._write_group()
        self._writer.close()

    def _make_schema(self, model: ModelRef) -> Any:
        arrow = self._arrow
        text, number = arrow.string(), arrow.float32()
        if self._dim is not None:
            # Not of fixed size: Arrow cannot read such a column back where a row is null.
            types = {"path": text, "embedding": arrow.list_(number), "error": text}
        else:
            special = {
                "confidence": number,
                "prediction_set": arrow.list_(text),
                "novelty": number,
                "abstained": arrow.bool_(),
                "probabilities": arrow.map_(text, number),
            }
            types = {name: special.get(name, text) for name in CLASSIFY_COLUMNS}
        facts = {f"handful.{name}": value for name, value in model.model_dump().items()}
        return arrow.schema(types.items(), metadata=facts)

    def _write_group(self) -> None:
        records, self._records = self._records, []
        columns = self._embeddings(records) if self._dim else self._predictions(records)
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))

    def _embeddings(self, records: list[Record]) -> dict[str, Any]:
        return {
            "path": [record.path for record in records],
            "embedding": [record.embedding for record in records],
            "error": [record.error_text for record in records],
        }

    def _predictions(self, records: list[Record]) -> dict[str, Any]:
        rows = [record.as_dict() for record in records]
        columns: dict[str, Any] = {
            name: [row.get(name) for row in rows] for name in CLASSIFY_COLUMNS
        }
        columns["probabilities"] = [
            None if cell is None else list(cell.items()) for cell in columns["probabilities"]
        ]
        return columns


@contextmanager
def parquet_file(path: Path, dim: int | None, model: ModelRef) -> Iterator[ParquetOutput]:
    """Write a Parquet file, which appears when it is whole."""
    with replacing(path) as temporary:
        output = ParquetOutput(temporary, dim, model)
        with output:
            yield output

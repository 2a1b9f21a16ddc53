"""Write embeddings with the names of their images, as .npy, .parquet or .csv, a part at a time."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handful_training.errors import InputError, TrainingError
from handful_training.sources.table import neutralise, write_table

SUFFIXES = (".npy", ".parquet", ".csv")


def check_output(path: Path) -> None:
    """Refuse an output that could not be written in the end, before any work is done.

    Raises:
        InputError: another suffix, or no such folder.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"-o {path}: choose a name that ends in {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise InputError(f"-o {path}: the folder does not exist; make it first")


def write_embeddings(
    path: Path, keys: Sequence[str], parts: Iterable[NDArray[np.float32]], dim: int
) -> None:
    """Write embeddings to `path`, all of them or nothing.

    .npy holds float32 [N, dim], and `path` with `.keys.csv` appended the names; .parquet has the
    columns `path` and `embedding`; .csv has `path` and one column per dimension.

    Args:
        path: ends in one of `SUFFIXES`.
        keys: names of the N images.
        parts: their embeddings in order, float32 [<= N, dim] each.
        dim: length of an embedding.

    Raises:
        TrainingError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    write = {".npy": _write_npy, ".parquet": _write_parquet, ".csv": _write_csv}[path.suffix]
    try:
        write(temporary, keys, parts, dim)
        if path.suffix == ".npy":
            write_table(path.with_name(path.name + ".keys.csv"), ["path"], ([key] for key in keys))
        temporary.replace(path)
    except OSError as error:
        raise TrainingError(f"cannot write {path} ({error}); free some space") from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_npy(
    path: Path, keys: Sequence[str], parts: Iterable[NDArray[np.float32]], dim: int
) -> None:
    if not keys:
        with path.open("wb") as file:
            np.save(file, np.zeros((0, dim), np.float32))
        return
    array: Any = np.lib.format.open_memmap(path, "w+", np.float32, (len(keys), dim))
    start = 0
    for part in parts:
        array[start : start + len(part)] = part
        start += len(part)
    array.flush()


def _write_parquet(
    path: Path, keys: Sequence[str], parts: Iterable[NDArray[np.float32]], dim: int
) -> None:
    import pyarrow as pa  # noqa: PLC0415 - 50 MB that only this format needs
    import pyarrow.parquet as pq  # noqa: PLC0415 - the same

    schema = pa.schema([("path", pa.string()), ("embedding", pa.list_(pa.float32(), dim))])
    with pq.ParquetWriter(path, schema) as writer:
        start = 0
        for part in parts:
            names = pa.array(keys[start : start + len(part)], pa.string())
            values = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), dim)
            writer.write_table(pa.table([names, values], schema=schema))
            start += len(part)


def _write_csv(
    path: Path, keys: Sequence[str], parts: Iterable[NDArray[np.float32]], dim: int
) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", *(f"e{i}" for i in range(dim))])
        start = 0
        for part in parts:
            names = keys[start : start + len(part)]
            writer.writerows(
                [neutralise(key), *row.tolist()] for key, row in zip(names, part, strict=True)
            )
            start += len(part)

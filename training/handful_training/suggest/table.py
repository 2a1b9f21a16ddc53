"""The table of suggestions: written so that, filled in, it is what `--labels` takes.

A table that somebody has filled in is never overwritten. Where it is the very file that the labels
came from, what is filled in stays and the suggestions come below it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from handful_training.errors import InputError, TrainingError
from handful_training.sources.table import read_header, read_table, write_table
from handful_training.suggest.suggestion import Suggestion

COLUMNS = ("path", "label", "rank", "reason", "chosen_by")
SUFFIX = ".csv"


def check_output(path: Path | None, labels: str | None, *, extend: bool) -> None:
    """Refuse an output that could not be written in the end, or would cost somebody's labels.

    Args:
        path: of `-o`; None: a folder of the run's own.
        labels: what `--labels` names.
        extend: the output may be the file of the labels; else it may not.

    Raises:
        InputError: it cannot be written to.
    """
    if path is None:
        return
    if path.suffix.lower() != SUFFIX:
        raise InputError(f"-o {path}: choose a name that ends in {SUFFIX}")
    if not path.absolute().parent.is_dir():
        raise InputError(f"-o {path}: the folder does not exist; make it first")
    if not path.exists():
        return
    if is_file_of(labels, path):
        if not extend:
            raise InputError(
                f"-o {path}: that file holds the labels; those in doubt go to a file of their own: "
                "name another"
            )
        return
    filled = sum(bool(label) for _, (_, label) in read_table(path, ("path", "label")))
    if filled:
        raise InputError(
            f"-o {path}: {filled:,} of its lines are labelled and would be lost; name another "
            "file, or give this one by --labels too"
        )


def is_file_of(labels: str | None, path: Path) -> bool:
    """Say whether `--labels` names the file at `path`."""
    if labels is None or not path.exists() or not Path(labels).exists():
        return False
    return path.samefile(labels)


def filled_rows(path: Path) -> list[tuple[str, ...]]:
    """Return the lines of an earlier table that have a label, as cells of `COLUMNS`.

    Raises:
        InputError: it is no table of paths and labels.
    """
    known = read_header(path)
    present = [name for name in COLUMNS if name in known or name in COLUMNS[:2]]
    found = []
    for _, cells in read_table(path, present):
        cell = dict(zip(present, cells, strict=True))
        if cell["label"]:
            found.append(tuple(cell.get(name, "") for name in COLUMNS))
    return found


def write_suggestions(
    path: Path,
    suggestions: Sequence[Suggestion],
    keys: Sequence[str],
    chosen_by: str,
    kept: Sequence[tuple[str, ...]] = (),
) -> None:
    """Write the table, all of it or nothing.

    Args:
        path: where.
        suggestions: in order.
        keys: of the pack's images.
        chosen_by: how they were chosen.
        kept: lines that come before them.

    Raises:
        TrainingError: it cannot be written.
    """
    more = [name for name, _ in suggestions[0].more] if suggestions else []

    def rows() -> Iterator[tuple[str, ...]]:
        for cells in kept:
            yield (*cells, *("" for _ in more))
        for rank, one in enumerate(suggestions, 1):
            cells = (keys[one.row], one.label, str(rank), one.reason, chosen_by)
            yield (*cells, *(text for _, text in one.more))

    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        # Names that are not UTF-8 are written as they are, so that they are found again.
        write_table(unfinished, (*COLUMNS, *more), rows(), errors="surrogateescape")
        unfinished.replace(path)
    except OSError as error:
        raise TrainingError(f"cannot write {path} ({error}); free some space") from error
    finally:
        unfinished.unlink(missing_ok=True)

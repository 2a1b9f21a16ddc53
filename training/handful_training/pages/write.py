"""Write a page with its pictures to a folder."""

import os
from pathlib import Path

import numpy as np

from handful_training.errors import InputError, TrainingError
from handful_training.pages.html import render
from handful_training.pages.view import Page, View
from handful_training.plots import strips

PAGE = "index.html"


def check_folder(folder: Path | None) -> None:
    """Refuse an output that could not be written in the end, before any work is done.

    Raises:
        InputError: it is a file, or its parent is no folder.
    """
    if folder is None or folder.is_dir():
        return
    if folder.exists():
        raise InputError(f"-o {folder}: that is a file; name a folder")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"-o {folder}: its parent folder does not exist; make it first")


def write_page(page: Page, folder: Path) -> list[Path]:
    """Write `index.html`, and each view as KEY.png; files of these names are replaced.

    Returns:
        What was written, the page first.

    Raises:
        TrainingError: they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / PAGE
        written = [path]
        for view in page.sections:
            if isinstance(view, View):
                written.append(folder / f"{view.key}.png")
                draw(view, written[-1])
        _write(page, path)
    except OSError as error:
        raise TrainingError(
            f"cannot write to {folder} ({error}); free some space or name another by -o"
        ) from error
    return written


def check_file(path: Path | None) -> None:
    """Refuse an output that could not be written in the end, before any work is done.

    Raises:
        InputError: it is a folder, or lies in none.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"-o {path}: that is a folder; name a file, as in {path / 'report.html'}")
    if not path.absolute().parent.is_dir():
        raise InputError(f"-o {path}: its folder does not exist; make it first")


def write_file(page: Page, path: Path) -> None:
    """Write the page alone, as one file; an old one is replaced.

    Raises:
        TrainingError: it cannot be written.
    """
    try:
        _write(page, path)
    except OSError as error:
        raise TrainingError(
            f"cannot write {path} ({error}); free some space or name another by -o"
        ) from error


def _write(page: Page, path: Path) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(render(page), encoding="utf-8", errors="backslashreplace")
    unfinished.replace(path)


def draw(view: View, path: Path) -> None:
    """Draw a view as a picture that stands by itself."""
    longest = max(len(strip.images) for strip in view.strips)
    rows = []
    for strip in view.strips:
        missing = longest - len(strip.images)
        blank = np.full((missing, *strip.images.shape[1:]), 255, np.uint8)
        rows.append(np.concatenate([strip.images, blank]))
    names = [" · ".join(filter(None, (strip.name, strip.note))) for strip in view.strips]
    strips(
        np.stack(rows), path, title=view.title, subtitle=view.caption,
        names=names, columns=view.columns, tight=view.sheet and bool(view.columns),
    )  # fmt: skip

"""Which images are labelled, and with what. Knows no pixels.

`read_labels` reads every form of `--labels`; `Labels` is what all of them become.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from handful_training.errors import InputError
from handful_training.labels.forms import Found, find_labels
from handful_training.sources.source import Source

AUDIT = "audit"  # drawn at random by `handful-train suggest --audit`


class Rows(Protocol):
    """What `Labels.in_pack` must know of a pack."""

    @property
    def row_of(self) -> NDArray[np.int64]:
        """Row in the pack of each image of the source, -1 where it was rejected."""
        ...


@dataclass(frozen=True, eq=False)
class Labels:
    """Labelled images, sorted by row.

    Attributes:
        names: the classes, sorted; class k is called `names[k]`.
        index: rows of the labelled images: int64 [n]. Of the source; after `in_pack`, of the pack.
        target: their classes: int64 [n].
        keys: their keys.
        notes: what was left aside on the way and why, for the user.
        chosen_by: how each came to be labelled: `AUDIT`, the name of a strategy, "" where that is
            not known. [n]; empty: it is not known of any.
    """

    names: tuple[str, ...]
    index: NDArray[np.int64]
    target: NDArray[np.int64]
    keys: tuple[str, ...]
    notes: tuple[str, ...] = ()
    chosen_by: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def digest(self) -> str:
        """Digest of who is labelled as what; the order does not matter."""
        digest = hashlib.sha256()
        for key, target in sorted(zip(self.keys, self.target.tolist(), strict=True)):
            for text in (key, self.names[target]):
                data = text.encode(errors="surrogateescape")
                digest.update(len(data).to_bytes(8, "big") + data)
        return f"sha256:{digest.hexdigest()}"

    @cached_property
    def audit(self) -> NDArray[np.bool_]:
        """Which of the images were drawn at random, each equally likely: bool [n]."""
        if not self.chosen_by:
            return np.zeros(len(self), np.bool_)
        return np.array([how == AUDIT for how in self.chosen_by], np.bool_)

    def counts(self) -> dict[str, int]:
        """Return how many images each class has."""
        counted = np.bincount(self.target, minlength=len(self.names)).tolist()
        return dict(zip(self.names, counted, strict=True))

    def in_pack(self, pack: Rows, *, min_classes: int = 2) -> Self:
        """Return the labels whose image could be read, by row of `pack`.

        Call it before `take`, so that N per class means N that can be used.

        Raises:
            InputError: fewer than `min_classes` classes are left.
        """
        rows = pack.row_of[self.index]
        kept = self._choose(np.flatnonzero(rows >= 0))
        kept = replace(kept, index=pack.row_of[kept.index])
        if lost := len(self) - len(kept):
            note = f"{lost:,} of {len(self):,} labels dropped: their images are unreadable"
            kept = replace(kept, notes=(*kept.notes, note))
        return _checked(kept, min_classes, "after unreadable images were dropped")

    def take(self, per_class: int, seed: int) -> Self:
        """Draw `per_class` labels of each class; a class that has fewer keeps all, with a note.

        A seed's draw of 5 is part of its draw of 10, and the draw in one class does not depend on
        what other classes there are, so curves over the number of labels compare like with like.

        Args:
            per_class: labels to keep in each class, 1 or more.
            seed: decides which; 0 or more. Nothing else is drawn from it.

        Raises:
            InputError: `per_class` or `seed` is out of bounds.
        """
        if per_class < 1:
            raise InputError(f"{per_class} labels per class: give 1 or more")
        if seed < 0:
            raise InputError(f"seed {seed}: give 0 or more")
        chosen: list[int] = []
        short: list[str] = []
        for k, name in enumerate(self.names):
            members = np.flatnonzero(self.target == k)
            entropy = [seed, *name.encode(errors="surrogateescape")]
            chosen += np.random.default_rng(entropy).permutation(members)[:per_class].tolist()
            if len(members) < per_class:
                short.append(f"{name} {len(members)}")
        taken = self._choose(np.sort(np.array(chosen, np.int64)))
        if short:
            note = f"fewer than {per_class} labels, all are used: {_some(short)}"
            taken = replace(taken, notes=(*taken.notes, note))
        return taken

    def of_classes(self, classes: NDArray[np.integer]) -> Self:
        """Return the labels of the classes numbered so."""
        return self._choose(np.flatnonzero(np.isin(self.target, classes)))

    def _choose(self, places: NDArray[np.int64]) -> Self:
        """Keep the labels at `places`, and the classes that are left."""
        used, target = np.unique(self.target[places], return_inverse=True)
        return replace(
            self,
            names=tuple(self.names[k] for k in used.tolist()),
            index=self.index[places],
            target=target.astype(np.int64),
            keys=tuple(self.keys[place] for place in places.tolist()),
            chosen_by=tuple(self.chosen_by[i] for i in places.tolist()) if self.chosen_by else (),
        )


Checked = TypeVar("Checked", bound=Labels)


def read_labels(
    spec: str, source: Source, images: str | Path, *, min_classes: int = 2
) -> tuple[Source, Labels]:
    """Read labels in any form that `--labels` takes.

    Args:
        spec: a CSV file with the columns `path,label`; the word `folders`; a folder of class
            folders, whose images join the source; an export of Label Studio; or for an idx source
            its labels file.
        source: what `open_source(images)` returned.
        images: what the paths in the CSV file are relative to.
        min_classes: two to fit a classifier; to evaluate one, a single class will do.

    Returns:
        The source, joined with the images of a folder of class folders; and the labels, whose
        `index` counts through that source.

    Raises:
        InputError: no such labels, none that matches an image, or fewer than `min_classes`
            classes. The message says what was found.
    """
    found = find_labels(spec, source, images)
    source, labels = found.source, _labels(found, found.source.keys)
    return source, _checked(labels, min_classes, f"in `--labels {spec}`")


def _labels(found: Found, keys: Sequence[str]) -> Labels:
    label_of = found.label_of
    names = tuple(sorted(set(label_of.values())))
    number = {name: k for k, name in enumerate(names)}
    rows = sorted(label_of)
    return Labels(
        names=names,
        index=np.array(rows, np.int64),
        target=np.array([number[label_of[row]] for row in rows], np.int64),
        keys=tuple(keys[row] for row in rows),
        notes=tuple(found.notes),
        chosen_by=tuple(found.chosen_by.get(row, "") for row in rows) if found.chosen_by else (),
    )


def _checked(labels: Checked, min_classes: int, when: str) -> Checked:
    if len(labels.names) < min_classes:
        found = ", ".join(f"{name} ({n})" for name, n in labels.counts().items()) or "none"
        raise InputError(
            f"classes {when}: {found}; labels of at least {min_classes} classes are needed"
        )
    return labels


def _some(items: Sequence[str], limit: int = 5) -> str:
    return ", ".join(items[:limit]) + (
        f" and {len(items) - limit} more" if len(items) > limit else ""
    )

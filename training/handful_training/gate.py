"""Whether a newly trained version may replace the champion. Knows no MLflow, images or models.

Both versions predicted the same labelled images out of fold: each image by a head that had not
seen its label. Let b be the images on which only the champion is right and c those on which only
the challenger is. If neither is better, b ~ Binomial(b + c, 1/2); the one-sided exact test of
McNemar (1947, "Note on the sampling error of the difference between correlated proportions",
Psychometrika 12) asks for P(X >= b). The challenger is refused when that is below `alpha`.

What it can see: with fewer than 5 discordant images no outcome falls below 0.05, so the gate could
not decide and the newer data wins. With 10, only 9 : 1 or worse refuses. It keeps out a broken
head; it does not rank two good ones.

What it compares is honest but not symmetric: the truth is the challenger's (the newer labels), and
the champion's head was fitted on its own labels, perhaps more or fewer of them.
"""

import io
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from handful_training.errors import TrainingError

ALPHA = 0.05
PROOF = 0.1  # of "better": a wrong yes costs little, a wrong no costs what was gained
MAX_BYTES = 2**30


@dataclass(frozen=True)
class OutOfFold:
    """What a head says of its own labelled images, each predicted by a head that had not seen it.

    Attributes:
        keys: [n] what identifies an image across runs; best the digest of its content.
        probabilities: float32 [n, K].
        target: int64 [n], indices into `labels`.
        labels: the K classes.
        seen: keys of the images whose labels the encoder itself was trained on. They are not among
            `keys`, nor may they ever be: no prediction of theirs is honest.
    """

    keys: tuple[str, ...]
    probabilities: NDArray[np.float32]
    target: NDArray[np.int64]
    labels: tuple[str, ...]
    seen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, k = len(self.keys), len(self.labels)
        if self.probabilities.shape != (n, k) or self.target.shape != (n,):
            raise ValueError(
                f"{n} keys and {k} labels, but probabilities {self.probabilities.shape} "
                f"and target {self.target.shape}"
            )
        if n and not (self.target.min() >= 0 and self.target.max() < k):
            raise ValueError(f"target names a class outside 0..{k - 1}")

    def without(self, seen: Collection[str]) -> Self:
        """Leave out the images that the encoder was adapted to, and remember them."""
        kept = [i for i, key in enumerate(self.keys) if key not in seen]
        return replace(
            self,
            keys=tuple(self.keys[i] for i in kept),
            probabilities=self.probabilities[kept],
            target=self.target[kept],
            seen=tuple(sorted({*self.seen, *seen})),
        )

    def pack(self) -> bytes:
        """Return the content of `out_of_fold.npz`: plain arrays, no pickle."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            keys=np.array(self.keys, np.str_),
            probabilities=self.probabilities.astype(np.float32),
            target=self.target.astype(np.int64),
            labels=np.array(self.labels, np.str_),
            seen=np.array(self.seen, np.str_),
        )
        return buffer.getvalue()

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Read what `pack` wrote.

        Raises:
            TrainingError: it is something else.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                size = sum(item.file_size for item in archive.infolist())
            _check_size(size)
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return cls(
                    tuple(arrays["keys"].tolist()),
                    arrays["probabilities"].astype(np.float32),
                    arrays["target"].astype(np.int64),
                    tuple(arrays["labels"].tolist()),
                    tuple(arrays["seen"].tolist()) if "seen" in arrays else (),
                )
        except (ValueError, KeyError, OSError, zipfile.BadZipFile, TypeError) as error:
            raise TrainingError(
                f"the stored out-of-fold predictions are damaged ({error}); "
                "`handful-train promote` chooses a version without them"
            ) from error


class Candidate(NamedTuple):
    """What the gate looks at of a version."""

    labels: tuple[str, ...] | None  # None: an encoder without a head
    out_of_fold: OutOfFold | None = None  # None: not enough labels for folds


class GateDecision(NamedTuple):
    """What the gate found. `reason` is one sentence for people; the rest is for programs."""

    promoted: bool
    decided: bool  # False: too little to compare, so the newer data won
    reason: str
    p_value: float | None = None  # of "the challenger is not worse"
    images: int = 0  # compared
    champion_only: int = 0  # b: images on which only the champion is right
    challenger_only: int = 0  # c: images on which only the challenger is right


def decide(
    champion: Candidate | None, challenger: Candidate, *, alpha: float = ALPHA
) -> GateDecision:
    """Return whether `challenger` may replace `champion` (None: there is none yet)."""
    if champion is None:
        return GateDecision(promoted=True, decided=True, reason="the first version")
    if challenger.labels is None:
        if champion.labels is None:
            return _undecided("neither version has a head to compare")
        return GateDecision(
            promoted=False,
            decided=True,
            reason="it has no head and the champion has one: /classify would stop answering; "
            "fit one by `handful-train head`",
        )
    if champion.labels is None:
        return GateDecision(
            promoted=True, decided=True, reason="the champion has no head, this version has one"
        )
    if champion.out_of_fold is None or challenger.out_of_fold is None:
        which = "the champion" if champion.out_of_fold is None else "this version"
        return _undecided(f"{which} has too few labels for out-of-fold predictions")
    return _compare(champion.out_of_fold, challenger.out_of_fold, alpha)


def shown_better(old: OutOfFold, new: OutOfFold, *, alpha: float = PROOF) -> GateDecision:
    """Return whether `new` is shown to be better than `old`: the test the other way round.

    Asked where the new version costs something if it is not: an adapted encoder makes all stored
    embeddings void. What cannot be decided stays as it is.
    """
    old_right, new_right = _right(old, new)
    n = len(old_right)
    b, c = int((old_right & ~new_right).sum()), int((~old_right & new_right).sum())
    p_value = _tail(c, b + c) if b + c else 1.0
    better, decided = p_value < alpha, 0.5 ** (b + c) < alpha
    verdict = "better" if better else "not shown to be better"
    if not decided:
        verdict = "too few images to tell"
    return GateDecision(
        promoted=better,
        decided=decided,
        reason=f"{verdict}: {_share(new_right)} right against {_share(old_right)} on {n} held-out "
        f"labelled images (alone right on {c} against {b}, p = {p_value:.2g})",
        p_value=p_value,
        images=n,
        champion_only=b,
        challenger_only=c,
    )


def _right(old: OutOfFold, new: OutOfFold) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether either is right on each image that both have; the truth is the new one's."""
    old_rows, new_rows = _shared(old.keys, new.keys)
    truth = np.array(new.labels)[new.target[new_rows]]
    return (
        np.array(old.labels)[old.probabilities[old_rows].argmax(1)] == truth,
        np.array(new.labels)[new.probabilities[new_rows].argmax(1)] == truth,
    )


def _share(right: NDArray[np.bool_]) -> str:
    return f"{right.mean():.1%}" if len(right) else "none"


def _compare(champion: OutOfFold, challenger: OutOfFold, alpha: float) -> GateDecision:
    changes = _class_changes(champion.labels, challenger.labels)
    old_right, new_right = _right(champion, challenger)
    n = len(old_right)
    if n == 0:
        return _undecided(f"the two versions share no labelled image{changes}")
    b, c = int((old_right & ~new_right).sum()), int((~old_right & new_right).sum())
    counts = {"images": n, "champion_only": b, "challenger_only": c}
    if 0.5 ** (b + c) >= alpha:  # the most one-sided outcome possible would not suffice
        return _undecided(
            f"the versions differ on {b + c} of {n} shared labelled images, too few to tell"
            + changes,
            **counts,
        )
    p_value = _tail(b, b + c)
    worse = p_value < alpha
    return GateDecision(
        promoted=not worse,
        decided=True,
        reason=f"{'worse' if worse else 'not worse'} than the champion: out of fold "
        f"{new_right.mean():.1%} right against {old_right.mean():.1%} on {n} shared labelled "
        f"images (alone right on {c} against {b}, p = {p_value:.2g}){changes}",
        p_value=p_value,
        **counts,
    )


def _tail(b: int, n: int) -> float:
    """Return P(X >= b) for X ~ Binomial(n, 1/2)."""
    from scipy.stats import binomtest  # noqa: PLC0415 - half a second, for one command

    return float(binomtest(b, n, 0.5, alternative="greater").pvalue)


def _shared(
    old: tuple[str, ...], new: tuple[str, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows of `old` and of `new` that hold the same image, each image once."""
    _, old_rows, new_rows = np.intersect1d(
        np.array(old, np.str_), np.array(new, np.str_), return_indices=True
    )
    return old_rows, new_rows


def _check_size(size: int) -> None:
    if size > MAX_BYTES:  # of a small file: a bomb
        raise ValueError(f"{size} bytes unpacked, at most {MAX_BYTES} are read")


def _class_changes(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    """Say how the classes changed: an image of a class that is new to it, the champion misses."""
    added, removed = sorted(set(new) - set(old)), sorted(set(old) - set(new))
    parts = [("new classes", added), ("classes gone", removed)]
    return "".join(f"; {what}: {', '.join(names)}" for what, names in parts if names)


def _undecided(what: str, **counts: Any) -> GateDecision:
    return GateDecision(
        promoted=True,
        decided=False,
        reason=f"could not decide: {what}; the newer data wins",
        **counts,
    )

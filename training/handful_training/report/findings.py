"""Everything that a report says, as plain numbers and a few images: what a run stores of it.

`findings.json` and `pictures.npz` are all that the page is made from, so that it can be made again
anywhere, without the images. Another format: raise `FORMAT`; a report of an older one is refused
with the command that computes it anew.
"""

import json
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handful_bundle.arrays import pack_arrays, unpack_arrays
from handful_bundle.errors import BundleCorrupt
from handful_training.errors import InputError
from handful_training.ladder.climb import Standing
from handful_training.ladder.paired import compare

FORMAT = 1
FOLDER = "report"  # among a run's artifacts
NUMBERS, PICTURES, PAGE = "findings.json", "pictures.npz", "report.html"
PLOT = "plot:"  # before the names of plots among the pictures


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Data(_Block):
    """The images and labels that there were."""

    source: str
    images: int
    rejected: int
    duplicates: int
    shape: tuple[int, int, int]
    classes: dict[str, int] = {}  # labels of each class that the head may see
    unused: int = 0  # labels that were left over


class Scores(_Block):
    """Of a rung, or of the head."""

    accuracy: float
    accuracy_ci: tuple[float, float]
    log_loss: float
    ece: float
    n: int
    seconds: float


class Difference(_Block):
    """Of a rung (first) and the head (second) on the same images."""

    n: int
    first_only: int
    second_only: int
    difference: float
    low: float
    high: float
    p_value: float


class Ladder(_Block):
    """Every rung on the same labels and the same images."""

    on: Literal["unused labels", "out of fold"]
    served: str  # the rung that answers /classify
    rungs: dict[str, Scores]
    against: dict[str, Difference]  # each other rung against the served one

    @classmethod
    def of(
        cls,
        on: Literal["unused labels", "out of fold"],
        standings: dict[str, Standing],
        served: str,
    ) -> Self:
        """Score the standings, all on the same images."""
        right = standings[served].right
        return cls(
            on=on,
            served=served,
            rungs={key: Scores(**found.scores()) for key, found in standings.items()},
            against={
                key: Difference(**compare(found.right, right).to_json())
                for key, found in standings.items()
                if key != served
            },
        )


class Sets(_Block):
    """Prediction sets, on the images of the ladder."""

    level: float
    threshold: float | None
    count: int  # labels that the threshold was found on
    coverage: float
    coverage_ci: tuple[float, float]
    mean_size: float
    n: int


class Novelty(_Block):
    """Where the head abstains because it has seen nothing alike."""

    method: str
    threshold: float
    false_alarm_rate: float  # that was asked for
    above: float  # share of the pool's images above the threshold
    n: int


class Shown(_Block):
    """An image among the pictures."""

    key: str
    note: str


class Findings(_Block):
    """All of it. What is None or empty could not be found, and the page says why."""

    format: Literal[1] = 1
    data: Data
    ladder: Ladder | None = None
    sets: Sets | None = None
    novelty: Novelty | None = None
    curve: dict[str, Any] | None = None  # what `learning_curve.json` holds
    novel: tuple[Shown, ...] = ()
    suggested: tuple[Shown, ...] = ()
    seconds: float = Field(default=0.0, ge=0)  # that finding all this took


class Pictures(dict[str, NDArray[np.uint8]]):
    """Images [s, H, W, C] by name, and plots as the bytes of PNG files."""

    def add_plots(self, folder: Path) -> None:
        """Take every PNG file of a folder; none of this folder is needed afterwards."""
        for path in sorted(folder.glob("*.png")):
            self[PLOT + path.stem] = np.frombuffer(path.read_bytes(), np.uint8)

    def plot(self, stem: str) -> bytes | None:
        """Return a plot's PNG file, None where there is none."""
        found = self.get(PLOT + stem)
        return None if found is None else found.tobytes()


def store(findings: Findings, pictures: Pictures, folder: Path) -> None:
    """Write both files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NUMBERS).write_text(json.dumps(findings.model_dump(mode="json"), indent=1))
    (folder / PICTURES).write_bytes(pack_arrays(dict(pictures)))


def load(numbers: Path, pictures: Path) -> tuple[Findings, Pictures]:
    """Read both files.

    Raises:
        InputError: they are damaged, or of another format.
    """
    try:
        findings = Findings.model_validate_json(numbers.read_bytes())
        arrays = unpack_arrays(pictures.read_bytes(), PICTURES)
    except (ValidationError, BundleCorrupt) as error:
        raise InputError(
            "the report that the run stored cannot be read by this version of handful; name the "
            "images and labels to compute it anew: "
            "`handful-train report NAME --images IMAGES --labels ...`"
        ) from error
    return findings, Pictures(arrays)

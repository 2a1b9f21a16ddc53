"""One sentence: is the VAE worth it on these images? With the doubt that so many labels leave."""

from typing import Literal, NamedTuple

from handful_training.ladder.catalogue import CONTROLS, ENTRIES
from handful_training.ladder.paired import Paired
from handful_training.report.findings import Difference, Findings

Answer = Literal["yes", "no", "no difference", "cannot tell", "not measured"]
SAME = 0.01  # a difference that surely is smaller matters to nobody
MOST_IMAGES = 100_000  # more than that would be needed: then nobody can tell


class Verdict(NamedTuple):
    """What the page says first."""

    answer: Answer
    sentence: str


def verdict(findings: Findings) -> Verdict:
    """Compare the head with the best of the controls, those that learn nothing from the images.

    Which control is best is decided on the same images: that favours the control a little.
    """
    ladder = findings.ladder
    if ladder is None or not (known := [key for key in CONTROLS if key in ladder.rungs]):
        if not findings.data.classes:
            return Verdict("not measured", "Not measured: there are no labels to measure it with.")
        return Verdict(
            "not measured",
            "Nothing can be said yet: a class has a single label, so that none of it can be held "
            "out. Label at least two images of each class.",
        )
    control = max(known, key=lambda key: (ladder.rungs[key].accuracy, known.index(key)))
    found, name = ladder.against[control], f"“{ENTRIES[control].title}”"
    theirs, ours = ladder.rungs[control].accuracy, ladder.rungs[ladder.served].accuracy
    right = (
        f"{percent(ours)} against {percent(theirs)} right on {found.n:,} "
        f"{_images(ladder.on)} ({points(found.difference)}, 95 % interval "
        f"{points(found.low, unit=False)} to {points(found.high)})"
    )
    if max(abs(found.low), abs(found.high)) < SAME:
        return Verdict(
            "no difference",
            f"No difference that matters: {name} learns nothing from the images and is as right, "
            f"{right}.",
        )
    if found.low > 0:
        fewer = (ours - theirs) / (1 - theirs)
        return Verdict(
            "yes",
            f"Yes: on your images the VAE makes {100 * fewer:.0f} % fewer errors than {name}, the "
            f"best way here that learns nothing: {right}.",
        )
    if found.high < 0:
        return Verdict(
            "no", f"No: {name} is more accurate on your images without learning anything: {right}."
        )
    return Verdict(
        "cannot tell",
        f"Cannot tell with {_evidence(findings, found)}: the VAE is right on {percent(ours)}, "
        f"{name} on {percent(theirs)}; the difference of {points(found.difference)} may be "
        f"anything from {points(found.low, unit=False)} to {points(found.high)} (95 %). "
        + _needed(found),
    )


def _images(on: str) -> str:
    return "labelled images, each without its own label" if on == "out of fold" else "unused labels"


def _evidence(findings: Findings, found: Difference) -> str:
    assert findings.ladder is not None
    if findings.ladder.on == "out of fold":
        return f"{found.n:,} labels"
    return f"{found.n:,} images to test on"


def _needed(found: Difference) -> str:
    needed = Paired(**found.model_dump()).needed()
    if needed is None or needed > MOST_IMAGES:
        return "If there is one, it is too small for any number of labels to show."
    if needed <= found.n:  # close to what would suffice
        return "A few more labels may show it."
    return f"It would take about {round_up(needed):,} labelled images to show one of this size."


def round_up(number: int) -> int:
    """Return `number` rounded up to two digits: it is an estimate."""
    unit = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // unit) * unit


def percent(share: float) -> str:
    """Return a share as "81.2 %"."""
    return f"{100 * share:.1f} %"


def points(difference: float, *, unit: bool = True) -> str:
    """Return a difference of shares as "+5.6 points"."""
    number = f"{100 * difference:+.1f}".replace("-", "−")
    return f"{number} points" if unit else number

"""From what the user named to packed pixels and labelled rows."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handful_bundle.manifest import ImageSpec
from handful_training.config import ImageConfig
from handful_training.labels.choice import LabelChoice
from handful_training.labels.labels import Labels, read_labels
from handful_training.packs.pack import MIN_IMAGES, Pack, pack_source
from handful_training.sources.image_spec import MAX_SIDE, derive_spec
from handful_training.sources.source import open_source
from handful_training.sources.store import shown

LISTS = "lists"  # in the work folder: what tars hold, and copies of remote idx files

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Images and labels, ready to learn from."""

    spec: ImageSpec
    pack: Pack
    labels: Labels | None  # rows of the pack that the head may see
    unused: Labels | None  # labelled rows that `--labels-per-class` left over: an honest test
    source: str = ""  # what IMAGES named, without credentials


def read_inputs(
    images: str,
    work: Path,
    *,
    choice: LabelChoice | None = None,
    config: ImageConfig | None = None,
    keep_side: Callable[[int], int] | None = None,
    spec: ImageSpec | None = None,
    minimum: int = MIN_IMAGES,
    min_classes: int = 2,
) -> Inputs:
    """Read images and labels, and pack the pixels once.

    Args:
        images: what IMAGES names.
        work: where the pack goes.
        choice: which labels.
        config: the size to bring images to, where `spec` does not say it.
        keep_side: of the number of images: the longer side up to which they keep their size.
        spec: the size that an encoder already has.
        minimum: fewest readable images; by default what a training needs.
        min_classes: fewest classes among the labels.

    Raises:
        InputError: the images or labels cannot be used; the message says what was found.
    """
    source = open_source(images, work / LISTS)
    labels = None
    if choice is not None:
        source, labels = read_labels(choice.spec, source, shown(images), min_classes=min_classes)
    _log.info("%s", source.summary)
    if spec is None:
        config = config or ImageConfig()
        spec = derive_spec(
            source,
            resize=config.resize,
            height=config.height,
            width=config.width,
            channels=config.channels,
            max_side=config.max_side,
            keep_side=keep_side(len(source)) if keep_side else MAX_SIDE,
            window=config.window,
        )
    pack = pack_source(source, spec, work, minimum=minimum)
    unused = None
    if labels is not None and choice is not None:
        labels = labels.in_pack(pack, min_classes=min_classes)
        if choice.per_class is not None:
            everything, labels = labels, labels.take(choice.per_class, choice.seed)
            unused = _rest(everything, labels)
        for note in labels.notes:
            _log.warning("%s", note)
    return Inputs(spec, pack, labels, unused, shown(images))


def _rest(everything: Labels, taken: Labels) -> Labels | None:
    """Return the labels that were not taken, or None if all were."""
    left = np.flatnonzero(~np.isin(everything.index, taken.index))
    if not len(left):
        return None
    return Labels(
        everything.names,
        everything.index[left],
        everything.target[left],
        tuple(everything.keys[i] for i in left.tolist()),
        chosen_by=tuple(everything.chosen_by[i] for i in left.tolist() if everything.chosen_by),
    )

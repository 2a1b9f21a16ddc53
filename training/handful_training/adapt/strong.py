"""Strong views: the same augmentation, further. What it must not change, it still does not."""

import annotated_types
from pydantic.fields import FieldInfo

from handful_training.config import AdaptConfig, AugmentConfig
from handful_training.presets import transforms

_BELOW_ONE = 0.95  # of ranges that must stay below a bound


def strong_augmentation(augment: AugmentConfig, config: AdaptConfig) -> AugmentConfig:
    """Return `augment` with every range `strength` times as wide, within its bounds, and erasing.

    A range of 0 stays 0: flips, turns and colours that change what a picture shows were switched
    off by somebody who knows.
    """
    weak = transforms(augment)
    widened = {
        name: min(_bound(field), config.strength * value)
        for name, field in AugmentConfig.model_fields.items()
        if type(value := getattr(weak, name, None)) is float
    }
    if augment.preset != "none":
        widened["erase"] = max(weak.erase, config.erase)
    return augment.model_copy(update=widened)


def _bound(field: FieldInfo) -> float:
    """Return the largest value of a field."""
    for bound in field.metadata:
        if isinstance(bound, annotated_types.Le):
            return float(bound.le)  # type: ignore[arg-type]  # a number, as all bounds of settings
        if isinstance(bound, annotated_types.Lt):
            return _BELOW_ONE * float(bound.lt)  # type: ignore[arg-type]  # the same
    return float("inf")

"""Named choices of what views may differ in, and how an unset setting gets its value.

Which changes leave a picture's meaning alone is knowledge of the domain: a mirrored cat is a cat,
a mirrored b is a d. A preset is such knowledge under a name. It does *not* know the labels: look
at the sheet of views before trusting it.
"""

from dataclasses import asdict, dataclass
from typing import Literal

from handful_training.config import AugmentConfig
from handful_training.symmetry import Symmetry

Padding = Literal["border", "reflection"]


@dataclass(frozen=True)
class Transforms:
    """What a view may undergo; each as in `AugmentConfig`, and none of them open."""

    shift: float = 0.0
    zoom: float = 0.0
    crop: float = 0.0
    stretch: float = 0.0
    shear: float = 0.0
    rotation: float = 0.0
    flip: bool = False
    flip_vertical: bool = False
    quarter_turns: bool = False
    padding: Padding = "border"
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    erase: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether any view is warped."""
        ranges = (self.shift, self.zoom, self.crop, self.stretch, self.shear, self.rotation)
        return any(ranges) or self.flip or self.flip_vertical or self.quarter_turns

    @property
    def recolours(self) -> bool:
        """Whether any view of a grey image changes in brightness or contrast."""
        return bool(self.brightness or self.contrast)

    @property
    def turns_colours(self) -> bool:
        """Whether any view of a colour image changes in its colours alone."""
        return bool(self.saturation or self.hue or self.grey)


PRESETS = {
    # What hardly any labelling depends on. Mirroring is added where the images allow it.
    "safe": Transforms(
        shift=0.08,
        zoom=0.5,
        stretch=0.1,
        rotation=10.0,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.08,
    ),
    # Writing: slanted and pressed differently, never mirrored.
    "digits": Transforms(
        shift=0.08,
        zoom=0.25,
        stretch=0.15,
        shear=0.2,
        rotation=12.0,
        brightness=0.2,
        contrast=0.3,
        saturation=0.4,
        hue=0.05,
    ),
    # Photographs: any cut-out, from either side, in any light.
    "natural": Transforms(
        shift=0.04,
        zoom=0.15,
        crop=0.35,
        stretch=0.15,
        rotation=8.0,
        flip=True,
        brightness=0.4,
        contrast=0.4,
        saturation=0.5,
        hue=0.08,
        grey=0.1,
    ),
    # Seen from above or under a microscope: no direction means anything, and there is no border.
    "texture": Transforms(
        shift=0.1,
        zoom=0.3,
        stretch=0.1,
        rotation=45.0,
        flip=True,
        flip_vertical=True,
        quarter_turns=True,
        padding="reflection",
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
        hue=0.05,
    ),
    "none": Transforms(),
}


def transforms(config: AugmentConfig, symmetry: Symmetry | None = None) -> Transforms:
    """Return what `config` asks for: what is set there, else what its preset says.

    Args:
        config: names a preset; any key may be set besides.
        symmetry: of the pool; `safe` mirrors and turns views as far as it goes. None: not looked
            at, and `safe` does neither.
    """
    values = asdict(PRESETS[config.preset])
    if config.preset == "safe" and symmetry is not None:
        values |= {
            "flip": symmetry.left_right,
            "flip_vertical": symmetry.upside_down,
            "quarter_turns": symmetry.quarter_turn,
        }
    given = config.model_dump(exclude={"preset"}, exclude_none=True)
    return Transforms(**(values | given))


def resolved(config: AugmentConfig, symmetry: Symmetry | None = None) -> AugmentConfig:
    """Return `config` with every key set, as `transforms` says; resolving again changes nothing."""
    return config.model_copy(update=asdict(transforms(config, symmetry)))


def looks_at_the_pool(config: AugmentConfig) -> bool:
    """Whether a symmetry of the pool would decide anything."""
    open_keys = (config.flip, config.flip_vertical, config.quarter_turns)
    return config.preset == "safe" and any(key is None for key in open_keys)

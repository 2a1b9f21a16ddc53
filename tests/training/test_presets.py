"""Presets resolve as documented; what is set explicitly wins."""

import pytest

from handful_training.config import AugmentConfig, load_config
from handful_training.errors import InputError
from handful_training.presets import PRESETS, Transforms, looks_at_the_pool, resolved, transforms
from handful_training.symmetry import Symmetry

CLOSED = Symmetry(left_right=True, upside_down=True, quarter_turn=True)


def test_every_preset_of_the_configuration_exists() -> None:
    """The names that the configuration takes are those that have values."""
    for name in PRESETS:
        assert load_config(None, [f"augment.preset={name}"]).augment.preset == name
    with pytest.raises(InputError, match="safe"):
        load_config(None, ["augment.preset=wild"])


def test_presets_keep_the_bounds_of_the_settings() -> None:
    """What a preset says is what a user could have said, and nothing is left open."""
    for name in PRESETS:
        config = resolved(AugmentConfig.model_validate({"preset": name}), CLOSED)
        assert AugmentConfig.model_validate(config.model_dump()) == config
        assert None not in config.model_dump().values()


def test_only_presets_for_it_mirror() -> None:
    """Without a look at the pool, `safe` and `digits` mirror nothing; `natural` left and right."""
    flips = {
        name: (preset.flip, preset.flip_vertical, preset.quarter_turns)
        for name, preset in PRESETS.items()
    }
    assert flips["safe"] == flips["digits"] == flips["none"] == (False, False, False)
    assert flips["natural"] == (True, False, False)
    assert flips["texture"] == (True, True, True)
    assert PRESETS["none"] == Transforms()
    assert not PRESETS["none"].moves


def test_safe_mirrors_as_far_as_the_pool_allows() -> None:
    """`safe` follows the symmetry, change by change; other presets know better than the pool."""
    for left_right, upside_down, quarter in [(True, False, False), (False, True, True)]:
        found = transforms(AugmentConfig(), Symmetry(left_right, upside_down, quarter))
        assert (found.flip, found.flip_vertical, found.quarter_turns) == (
            left_right,
            upside_down,
            quarter,
        )
    assert transforms(AugmentConfig(preset="digits"), CLOSED) == PRESETS["digits"]
    assert transforms(AugmentConfig(preset="none"), CLOSED) == PRESETS["none"]


def test_what_is_set_wins() -> None:
    """A key that is set, also to zero or false, is taken over preset and symmetry; others stay."""
    config = AugmentConfig(preset="texture", rotation=0.0, flip=False)
    found = transforms(config)
    assert (found.rotation, found.flip) == (0.0, False)
    assert (found.flip_vertical, found.zoom) == (True, PRESETS["texture"].zoom)
    assert not transforms(AugmentConfig(flip=False), CLOSED).flip
    assert transforms(AugmentConfig(flip=True), Symmetry()).flip


def test_resolving_again_changes_nothing() -> None:
    """A resolved block holds its decision: another symmetry no longer matters."""
    once = resolved(AugmentConfig(), Symmetry(left_right=True))
    assert resolved(once, CLOSED) == once
    assert not looks_at_the_pool(once)


def test_the_pool_is_looked_at_only_where_it_decides() -> None:
    """With another preset, or with every flip set, nobody needs to look."""
    assert looks_at_the_pool(AugmentConfig())
    assert looks_at_the_pool(AugmentConfig(flip=True))
    assert not looks_at_the_pool(AugmentConfig(preset="natural"))
    assert not looks_at_the_pool(AugmentConfig(flip=True, flip_vertical=False, quarter_turns=False))

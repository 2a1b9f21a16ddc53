"""The judge of growth, on series that are made up: it says yes and no, and is hard to fool."""

import math
import random

import pytest

REQUESTS = [5_000.0 * n for n in range(40)]
BASE = 130e6  # bytes


def noisy(seed: int, *, slope: float = 0.0, noise: float = 0.004) -> list[float]:
    """BASE with `noise` of it on each value, growing by `slope` of it in all."""
    rng = random.Random(seed)
    return [BASE * (1 + slope * n / 39 + rng.gauss(0, noise)) for n in range(40)]


def test_noise_is_no_leak(leak_judge) -> None:
    """Of 200 flat series with 0.4 % of noise none is called a leak."""
    found = [leak_judge.leaks(REQUESTS, noisy(seed)) for seed in range(200)]
    assert sum(found) == 0


@pytest.mark.parametrize("slope", [0.02, 0.2])
def test_growth_is_a_leak(leak_judge, slope) -> None:
    """Of 200 series with the same noise that grow by 2 % or 20 % each is called a leak."""
    found = [leak_judge.leaks(REQUESTS, noisy(seed, slope=slope)) for seed in range(200)]
    assert sum(found) == 200


def test_growth_is_told_as_it_is(leak_judge) -> None:
    """Without noise a straight line's growth is its own, upwards and downwards."""
    for slope in (-0.1, 0.0, 0.005, 0.3):
        found = leak_judge.growth(REQUESTS, noisy(0, slope=slope, noise=0))
        # As a share of the first quarter's median, which lies inside of it.
        assert found == pytest.approx(slope, rel=0.25, abs=1e-9)


def test_one_step_is_a_leak(leak_judge) -> None:
    """Memory that comes in one piece and stays is growth, early, in the middle or late."""
    for at in (12, 20, 28):
        step = [BASE * (1.03 if n >= at else 1) for n in range(40)]
        assert leak_judge.leaks(REQUESTS, step)


def test_what_passes_is_no_leak(leak_judge) -> None:
    """Four outliers of 20 %, a wave, and memory that is given back are none."""
    outliers = noisy(1, noise=0.001)
    for n in (0, 7, 21, 39):
        outliers[n] *= 1.2
    wave = [BASE * (1 + 0.01 * math.sin(n)) for n in range(40)]
    for series in (outliers, wave, noisy(2, slope=-0.1)):
        assert not leak_judge.leaks(REQUESTS, series)


def test_too_little_is_no_answer(leak_judge) -> None:
    """Few measurements, or not one for each place, are refused instead of judged."""
    for count in (0, 1, 11):
        with pytest.raises(ValueError, match="are needed"):
            leak_judge.growth(REQUESTS[:count], noisy(0)[:count])
    with pytest.raises(ValueError, match="are needed"):
        leak_judge.growth(REQUESTS, noisy(0)[:30])

import random
import struct
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from handful_bundle.errors import ImageError
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode, header

SPECS = [
    ImageSpec(height=height, width=width, channels=channels, resize=policy, window=window)
    for height, width in ((19, 23), (8, 8), (40, 11))
    for channels in (1, 3)
    for policy, window in (("stretch", None), ("fit", (300, 40_000)), ("crop", None))
]


def outcome(data, spec):
    """Return the pixels, or the code of the error. Whatever else is raised is a failure."""
    try:
        shown = header(data)
    except ImageError as error:
        shown = error.code
    try:
        pixels = decode(data, spec)
    except ImageError as error:
        return error.code
    assert isinstance(shown, tuple), "decoded although the header is refused"
    assert (pixels.shape, pixels.dtype) == (spec.shape, np.uint8)
    return pixels


def mutate(data, dice):
    """Change, drop, repeat or insert some bytes."""
    damaged = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 4, 16))):
        position = dice.randrange(len(damaged))
        match dice.randrange(6):
            case 0:
                damaged[position] ^= 1 << dice.randrange(8)
            case 1:
                damaged[position] = dice.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
            case 2:
                damaged[position : position + 4] = struct.pack(">I", dice.randrange(2**32))
            case 3:
                del damaged[position : position + dice.randrange(1, 40)]
            case 4:
                damaged[position:position] = damaged[position : position + dice.randrange(1, 40)]
            case _:
                damaged[position:position] = dice.randbytes(dice.randrange(1, 20))
        if not damaged:
            break
    return bytes(damaged)


def repair_checksums(data):
    """Make the checksums of a damaged PNG right, so that damage gets past them."""
    repaired, position = bytearray(data), 8
    while position + 12 <= len(repaired):
        end = position + 8 + int.from_bytes(repaired[position : position + 4], "big")
        checksum = zlib.crc32(repaired[position + 4 : end])
        if end + 4 <= len(repaired):
            repaired[end : end + 4] = struct.pack(">I", checksum)
        position = end + 4
    return bytes(repaired)


def check_mutants(image_files, count, seed):
    dice = random.Random(seed)
    names = sorted(image_files)
    pixels = errors = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(count):
            name = names[number % len(names)]
            mutant = mutate(image_files[name], dice)
            if name.startswith("png") and dice.random() < 0.7:
                mutant = repair_checksums(mutant)
            if isinstance(outcome(mutant, dice.choice(SPECS)), str):
                errors += 1
            else:
                pixels += 1
    assert caught == []
    assert pixels + errors == count
    assert min(pixels, errors) > count // 20, "mutants too tame or too wild to test anything"


def test_mutants_give_an_image_error_or_the_right_shape(image_files):
    """Thousands of damaged files: no other exception, no warning, no other shape."""
    check_mutants(image_files, 10_000, seed=20)


@pytest.mark.slow
def test_a_million_mutants(image_files):
    """As above, with a million other files."""
    check_mutants(image_files, 1_000_000, seed=21)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    start=st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP", b""]),
    rest=st.binary(max_size=200),
)
def test_any_bytes_give_an_image_error(start, rest):
    """Arbitrary bytes, also behind the right magic ones, raise nothing but ImageError."""
    assert isinstance(outcome(start + rest, SPECS[0]), str)


def test_threads_do_not_disturb_each_other(image_files):
    """Many threads on all samples at once, intact and cut, get what one thread gets."""
    files = [*image_files.values(), *(data[:-20] for data in image_files.values())]
    tasks = [(data, spec) for data in files for spec in SPECS[:9]] * 3
    expected = [outcome(*task) for task in tasks]
    random.Random(0).shuffle(order := list(range(len(tasks))))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = dict(zip(order, pool.map(lambda i: outcome(*tasks[i]), order), strict=True))
    finally:
        sys.setswitchinterval(interval)
    for number, value in enumerate(expected):
        np.testing.assert_array_equal(found[number], value)
    assert threading.active_count() < 8


def test_global_state_of_pillow_is_left_alone(image_files):
    """Neither the import nor any call makes Pillow lenient or changes its limits or formats."""
    limit = Image.MAX_IMAGE_PIXELS
    for data in image_files.values():
        decode(data, SPECS[0])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert limit == Image.MAX_IMAGE_PIXELS == 1024**3 // 4 // 3

"""Bytes that are no image, many threads, and what decoding leaves alone. Damaged files by the
hundred thousand: tests/fuzz.
"""

import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
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
    before = threading.active_count()  # other tests may have left some behind
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = dict(zip(order, pool.map(lambda i: outcome(*tasks[i]), order), strict=True))
    finally:
        sys.setswitchinterval(interval)
    for number, value in enumerate(expected):
        np.testing.assert_array_equal(found[number], value)
    assert threading.active_count() <= before


def test_global_state_of_pillow_is_left_alone(image_files):
    """Neither the import nor any call makes Pillow lenient or changes its limits or formats."""
    limit = Image.MAX_IMAGE_PIXELS
    for data in image_files.values():
        decode(data, SPECS[0])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert limit == Image.MAX_IMAGE_PIXELS == 1024**3 // 4 // 3

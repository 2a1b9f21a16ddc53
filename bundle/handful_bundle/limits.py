"""How large an image may be. Told from its header, before anything is decoded."""

from handful_bundle.errors import ImageTooLarge, ImageUnreadable

MAX_PIXELS = 25_000_000
"""Most pixels of one image: 75 MB decoded, whatever the few bytes of a bomb promise."""

MAX_SIDE = 32_768
"""Longest side in pixels: room for panoramas, none for images of 1 x 60,000."""


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image that is too large, has no pixels or is impossibly long.

    Raises:
        ImageTooLarge: more than `max_pixels` pixels.
        ImageUnreadable: a side of zero, or of more than `MAX_SIDE` pixels.
    """
    if width < 1 or height < 1:
        raise ImageUnreadable("the image has no pixels: send one of at least 1 x 1")
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the image has {width} x {height} pixels, allowed are {max_pixels:,}: shrink it"
        )
    if width > MAX_SIDE or height > MAX_SIDE:
        raise ImageUnreadable(
            f"a side of {max(width, height)} pixels is longer than {MAX_SIDE:,}: shrink or cut it"
        )

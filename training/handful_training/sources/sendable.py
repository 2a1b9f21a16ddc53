"""Image files as a service takes them: a TIFF becomes a PNG of the same samples.

The package for clients does the same before it sends, so training and serving see the same pixels.
"""

from handful_bundle.errors import (
    ImageAnimated,
    ImageError,
    ImageTooLarge,
    ImageUnreadable,
    ImageUnsupported,
)
from handful_training.sources.png_file import write_png
from handful_training.sources.tiff import TiffRefused, is_tiff, read_tiff

_CAUSES: dict[str, type[ImageError]] = {
    cause.code: cause for cause in (ImageAnimated, ImageTooLarge, ImageUnreadable, ImageUnsupported)
}


def as_sendable(data: bytes) -> bytes:
    """Return an image file as JPEG, PNG or WebP: as it is, unless it is a TIFF.

    Raises:
        ImageError: a TIFF of a kind that is not read, too large, or corrupt.
    """
    if not is_tiff(data):
        return data
    try:
        return write_png(read_tiff(data), level=0)  # to be decoded at once: packing is lost time
    except TiffRefused as error:
        raise _CAUSES[error.code](str(error)) from error

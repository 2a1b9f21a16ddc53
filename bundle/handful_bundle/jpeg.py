"""JPEG → pixels, by libjpeg-turbo (simplejpeg). Knows nothing of the encoder's size.

- A picture is decoded at 1/2, 1/4 or 1/8 of its size when that suffices (the DCT gives it nearly
  for free); the other eighths that libjpeg offers are slower than the whole.
- Strict: what libjpeg merely warns of, a truncated or corrupt file, is an error.
- Several pictures in one file (MPO): the first one.
- CMYK and YCCK: read as Adobe writes them, inverted, with or without its marker, as browsers do.
- Arithmetic coding is read; 12-bit, lossless and hierarchical files are not.
"""

import re
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from handful_bundle.colour import cmyk_to_pixels
from handful_bundle.errors import ImageUnreadable
from handful_bundle.limits import check_size
from handful_bundle.media import JPEG
from handful_bundle.orientation import read_orientation

MAX_SCANS = 50
"""Most scans of a progressive file (cameras and tools write about ten): each decodes all pixels."""

_MAX_SEGMENTS = 10_000
_EXIF = b"Exif\x00\x00"
_START_OF_SCAN, _END_OF_IMAGE, _APP1, _STANDALONE = 0xDA, 0xD9, 0xE1, 0x01
# In entropy-coded data 0xff is followed by 0 or a restart marker, elsewhere perhaps by fill bytes.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")


class Jpeg(NamedTuple):
    """The header of a JPEG file. Sizes are as stored, before `orientation` is applied."""

    data: bytes
    width: int
    height: int
    colourspace: str
    orientation: int
    media_type: str = JPEG

    @property
    def channels(self) -> int:
        """1 if the picture is grey, else 3."""
        return 1 if self.colourspace == "Gray" else 3

    def read(
        self, channels: int, reduction: int, _window: tuple[int, int] | None = None, /
    ) -> NDArray[np.uint8]:
        """Decode to uint8 [ceil(height / reduction), ceil(width / reduction), channels]."""
        cmyk = self.colourspace in ("CMYK", "YCCK")
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            self.data,
            "CMYK" if cmyk else "GRAY" if channels == 1 else "RGB",
            min_height=-(-self.height // reduction),
            min_width=-(-self.width // reduction),
            strict=True,
        )
        return cmyk_to_pixels(pixels, channels) if cmyk else pixels


def open_jpeg(data: bytes, max_pixels: int) -> Jpeg:
    """Read the header of a JPEG file.

    Raises:
        ImageTooLarge: more than `max_pixels` pixels.
        ImageUnreadable: impossible sizes, or more than `MAX_SCANS` scans.
        ValueError: libjpeg cannot read the header.
    """
    height, width, colourspace, _ = simplejpeg.decode_jpeg_header(data, strict=True)
    check_size(width, height, max_pixels)
    # Counting two bytes is fast, but other data that follow the picture may hold them too.
    if data.count(b"\xff\xda") > MAX_SCANS:
        _check_scans(data)
    orientation = 1 if data.find(_EXIF) < 0 else _orientation(data)
    return Jpeg(data, width, height, colourspace, orientation)


def _orientation(data: bytes) -> int:
    """Return the orientation in the first Exif segment before the first scan, else 1."""
    position = 2
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(data, position)
        if marker is None or marker[1][0] in (_START_OF_SCAN, _END_OF_IMAGE):
            break
        position = _after_segment(data, marker)
        if marker[1][0] == _APP1 and data.startswith(_EXIF, marker.end() + 2):
            return read_orientation(data[marker.end() + 2 : position])
    return 1


def _check_scans(data: bytes) -> None:
    position, scans = 2, 0
    for _ in range(_MAX_SEGMENTS):
        marker = _MARKER.search(data, position)
        if marker is None or marker[1][0] == _END_OF_IMAGE:
            return
        scans += marker[1][0] == _START_OF_SCAN
        if scans > MAX_SCANS:
            break
        position = _after_segment(data, marker)
    raise ImageUnreadable(f"the JPEG has more than {MAX_SCANS} scans: save it as baseline")


def _after_segment(data: bytes, marker: re.Match[bytes]) -> int:
    if marker[1][0] == _STANDALONE:
        return marker.end()
    return marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")

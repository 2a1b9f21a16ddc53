"""PNG → pixels, by Pillow. Knows nothing of the encoder's size.

The file is walked here chunk by chunk (W3C PNG, third edition): checksums, sizes, animation and
orientation are known before a byte is inflated, and only the chunks that make up the picture
(IHDR, PLTE, tRNS, IDAT, IEND) ever reach Pillow. Profiles and texts, bombs or not, are skipped
unread; bytes after IEND are dropped. APNG is refused, also of one frame.
"""

import io
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from handful_bundle.colour import as_image, high_byte, narrow, over_white, to_pixels
from handful_bundle.errors import ImageAnimated, ImageUnreadable
from handful_bundle.limits import check_size
from handful_bundle.media import PNG
from handful_bundle.orientation import read_orientation
from handful_bundle.png_chunks import (
    COLOUR,
    COLOUR_ALPHA,
    CORRUPT,
    GREY,
    GREY_ALPHA,
    PALETTE,
    SIGNATURE,
    TRUNCATED,
    PngHeader,
    read_png_header,
    walk_chunks,
)

_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_INFLATE_IN, _INFLATE_OUT = 1 << 16, 1 << 18  # bytes at a time


class Png(NamedTuple):
    """A PNG file whose chunks are sorted. Sizes are as stored, before `orientation` is applied."""

    ihdr: PngHeader
    orientation: int
    picture: bytes  # a PNG file of only the chunks that make up the picture
    deflated: tuple[memoryview, ...]  # bodies of IDAT
    key: bytes | None  # body of tRNS where it names one transparent colour
    media_type: str = PNG

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.ihdr.width

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.ihdr.height

    @property
    def channels(self) -> int:
        """1 if the picture is grey, else 3."""
        return 1 if self.ihdr.colour_type in (GREY, GREY_ALPHA) else 3

    def read(
        self, channels: int, _reduction: int = 1, window: tuple[int, int] | None = None, /
    ) -> NDArray[np.uint8]:
        """Decode to uint8 [height, width, channels]: PNG is never reduced."""
        with PngImageFile(io.BytesIO(self.picture)) as image:
            image.load()
            self._check_complete(image)
            opaque = None if self.key is None else self._opaque(image, self.key)
            if self.ihdr.depth == 16 and window is not None:
                return to_pixels(
                    _over_white(_windowed(self._wide(image), window), opaque), channels
                )
            if image.mode.startswith("I;16"):  # other modes keep only the high byte anyway
                grey = high_byte(np.asarray(image, np.uint16))
                return to_pixels(_over_white(Image.fromarray(grey), opaque), channels)
            return to_pixels(_over_white(image, opaque), channels)

    def wide(self) -> NDArray[np.uint16]:
        """Decode a picture of 16 bits to all of them: [height, width, 1 or 3], without alpha."""
        with PngImageFile(io.BytesIO(self.picture)) as image:
            image.load()
            self._check_complete(image)
            return self._wide(image)[:, :, : self.channels]

    def _wide(self, image: Image.Image) -> NDArray[np.uint16]:
        """Return all 16 bits of `image`: [height, width, samples].

        Of several samples Pillow keeps the high bytes; the low ones are read by a second decoding
        under another layout.
        """
        if image.mode.startswith("I;16"):
            return np.asarray(image, np.uint16)[:, :, np.newaxis]
        layout = {COLOUR: "RGB;16L", GREY_ALPHA: "RGBA", COLOUR_ALPHA: "RGBA;16L"}
        with PngImageFile(io.BytesIO(self.picture)) as again:
            again.tile = [again.tile[0]._replace(args=layout[self.ihdr.colour_type])]
            low = np.asarray(again)
        if self.ihdr.colour_type == GREY_ALPHA:  # as four bytes: grey, its low one, alpha, likewise
            return np.asarray(low.view(">u2"), np.uint16)
        wide = np.array(image, np.uint16)
        wide <<= 8  # in place: there may be 75 million
        wide |= low
        return wide

    def _opaque(self, image: Image.Image, body: bytes) -> NDArray[np.bool_]:
        """Return [height, width], False where a pixel has the key's colour."""
        samples = 3 if self.ihdr.colour_type == COLOUR else 1
        if len(body) != 2 * samples:
            raise ImageUnreadable(CORRUPT)
        key = np.frombuffer(body, ">u2").astype(np.int64)
        depth = self.ihdr.depth
        if depth < 8:
            key = key * 255 // (2**depth - 1)  # Pillow spreads such samples over 0…255
            image = image.convert("L")
        stored = self._wide(image) if depth == 16 else np.asarray(image, np.uint16)
        different: NDArray[np.bool_] = stored.reshape(self.height, self.width, samples) != key
        return np.asarray(different.any(axis=2), np.bool_)

    def _check_complete(self, image: Image.Image) -> None:
        """Refuse a picture whose compressed data end early.

        Pillow leaves the missing rows black without a word, so a last row with anything in it
        proves that nothing is missing (the rows of an interlaced picture have another order).
        """
        last_row = image.crop((0, self.height - 1, self.width, self.height))
        if not self.ihdr.interlaced and last_row.getbbox(alpha_only=False) is not None:
            return
        missing = self.ihdr.inflated_size
        inflater = zlib.decompressobj()
        for body in self.deflated:
            for start in range(0, len(body), _INFLATE_IN):
                rest: bytes | memoryview = body[start : start + _INFLATE_IN]
                while rest and missing > 0:
                    missing -= len(inflater.decompress(rest, _INFLATE_OUT))
                    rest = inflater.unconsumed_tail
        if missing > 0 and missing > len(inflater.flush()):  # nothing unconsumed: a few bytes
            raise ImageUnreadable(TRUNCATED)


def open_png(data: bytes, max_pixels: int) -> Png:
    """Read the header of a PNG file and sort its chunks.

    Raises:
        ImageTooLarge: more than `max_pixels` pixels.
        ImageAnimated: it is an APNG.
        ImageUnreadable: truncated, corrupt or of impossible size.
        struct.error: truncated within a header.
    """
    ihdr = read_png_header(data)
    check_size(ihdr.width, ihdr.height, max_pixels)
    found: dict[bytes, list[memoryview]] = {}
    pieces = [memoryview(data)[:SIGNATURE]]
    for chunk in walk_chunks(data):
        if chunk.kind == b"acTL":
            raise ImageAnimated("the PNG file is an animation: send one still image")
        needed = chunk.kind in _PICTURE
        if chunk.is_critical and not needed:
            raise ImageUnreadable(CORRUPT)  # part of the picture, but nobody knows how
        if not chunk.intact:
            if needed:
                raise ImageUnreadable(CORRUPT)
            continue
        if needed or chunk.kind == b"eXIf":
            found.setdefault(chunk.kind, []).append(chunk.body)
        # a transparent colour is dealt with here, not by Pillow
        if needed and (chunk.kind != b"tRNS" or ihdr.colour_type == PALETTE):
            pieces.append(chunk.whole)
    has_palette = b"PLTE" in found or ihdr.colour_type != PALETTE
    if not has_palette or b"IDAT" not in found or len(found[b"IHDR"]) != 1:
        raise ImageUnreadable(CORRUPT)
    exif, transparency = found.get(b"eXIf"), found.get(b"tRNS")
    return Png(
        ihdr,
        orientation=read_orientation(bytes(exif[0])) if exif else 1,
        picture=b"".join(pieces),
        deflated=tuple(found[b"IDAT"]),
        key=bytes(transparency[0]) if transparency and ihdr.colour_type in (GREY, COLOUR) else None,
    )


def _over_white(image: Image.Image, opaque: NDArray[np.bool_] | None) -> Image.Image:
    if opaque is None:
        return image
    if image.mode == "1":
        image = image.convert("L")
    return over_white(image, as_image(opaque[:, :, np.newaxis] * np.uint8(255)))


def _windowed(samples: NDArray[np.uint16], window: tuple[int, int]) -> Image.Image:
    """Return 16-bit samples [h, w, 1 to 4] as an 8-bit image; the last of 2 or 4 is alpha."""
    colour = 1 if samples.shape[2] < 3 else 3
    image = as_image(narrow(samples[:, :, :colour], window))
    if samples.shape[2] == colour:
        return image
    return over_white(image, as_image(high_byte(samples[:, :, colour:])))

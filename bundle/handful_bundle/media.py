"""Which of the three formats some bytes are in. Told by the first bytes, never by a name."""

from handful_bundle.errors import ImageEmpty, ImageMismatched, ImageUnsupported

JPEG = "image/jpeg"
PNG = "image/png"
WEBP = "image/webp"

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ALIASES = {"image/jpg": JPEG, "image/pjpeg": JPEG, "image/x-png": PNG}
_NO_CLAIM = {"", "application/octet-stream"}


def sniff(data: bytes) -> str | None:
    """Return `image/jpeg`, `image/png` or `image/webp`, whichever `data` begin as, else None."""
    if data.startswith(b"\xff\xd8\xff"):
        return JPEG
    if data.startswith(_PNG_SIGNATURE):
        return PNG
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    return None


def identify(data: bytes, media_type: str | None) -> str:
    """Return the format of `data`, after checking it against what the sender declared.

    `media_type` may bear parameters and capitals. None, "" and `application/octet-stream`
    declare nothing.

    Raises:
        ImageEmpty: there are no bytes.
        ImageUnsupported: neither JPEG nor PNG nor WebP.
        ImageMismatched: `media_type` is another format than the bytes begin with.
    """
    if not data:
        raise ImageEmpty("no bytes: send a JPEG, PNG or WebP file")
    found = sniff(data)
    if found is None:
        raise ImageUnsupported("not a JPEG, PNG or WebP file: convert it to one of them")
    if media_type is not None and media_type != found:
        declared = media_type.split(";", 1)[0].strip().lower()
        if declared not in _NO_CLAIM and _ALIASES.get(declared, declared) != found:
            raise ImageMismatched(
                f"the bytes are {found} but were declared as something else: correct the media type"
            )
    return found

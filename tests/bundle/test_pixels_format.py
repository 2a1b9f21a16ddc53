import pytest

from handful_bundle.errors import ImageEmpty, ImageError, ImageMismatched, ImageUnsupported
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import Header, decode, header, sniff

SPEC = ImageSpec(height=16, width=16, channels=3)
TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
OTHERS = {
    "gif": b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
    "bmp": b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
    "tiff": b"II*\0\x08\0\0\0\0\0",
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "html": b"<!doctype html><title>not an image</title>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0",
    "riff but wave": b"RIFF\x24\0\0\0WAVEfmt ",
    "text": "s3cret-words €".encode(),
    "zeros": bytes(1000),
}


def test_sniff_knows_every_accepted_file(image_files):
    """Each sample is recognised as the format that it was written in."""
    for name, data in image_files.items():
        assert sniff(data) == TYPES[name.partition("-")[0]], name


def test_no_bytes_are_refused_as_empty():
    """Nothing at all has an error of its own, for `decode` and `header` alike."""
    for read in (lambda: decode(b"", SPEC), lambda: header(b"")):
        with pytest.raises(ImageEmpty, match="send a JPEG, PNG or WebP"):
            read()


@pytest.mark.parametrize("kind", OTHERS)
def test_other_formats_are_refused_as_unsupported(kind):
    """Neither another format nor a declared media type gets past the magic bytes."""
    for media_type in (None, "image/png", "image/gif"):
        with pytest.raises(ImageUnsupported, match="convert it"):
            decode(OTHERS[kind], SPEC, media_type=media_type)
        with pytest.raises(ImageUnsupported):
            header(OTHERS[kind], media_type=media_type)


def test_a_declared_type_must_be_the_real_one(image_files):
    """For every pair of formats, declaring the other is refused and the message names the real."""
    for found, real in TYPES.items():
        for declared in {*TYPES.values(), "image/gif", "text/html"} - {real}:
            with pytest.raises(ImageMismatched, match=real):
                decode(image_files[found], SPEC, media_type=declared)
            with pytest.raises(ImageMismatched, match=real):
                header(image_files[found], media_type=declared)


@pytest.mark.parametrize(
    "declared",
    [
        None,
        "",
        "application/octet-stream",
        "image/jpeg",
        "IMAGE/JPEG",
        "image/jpeg; q=1",
        "image/jpg",
        "image/pjpeg",
    ],
)
def test_spellings_of_the_right_type_are_accepted(declared, image_files):
    """Parameters, capitals, usual aliases and no claim at all do not refuse a JPEG."""
    assert decode(image_files["jpeg"], SPEC, media_type=declared).shape == SPEC.shape


def test_messages_never_quote_data_or_declaration():
    """What the sender wrote appears neither in the error nor in what it chains."""
    for data, declared in (
        (b"s3cret", "s3cret"),
        (b"\x89PNG\r\n\x1a\ns3cret" * 9, None),
        (b"\x89PNG\r\n\x1a\ns3cret" * 9, "image/s3cret"),
        (b"\xff\xd8\xff\xe1s3cret" * 9, None),
        (b"RIFF\x20\0\0\0WEBPs3cret" * 9, None),
    ):
        with pytest.raises(ImageError) as caught:
            decode(data, SPEC, media_type=declared)
        assert "s3cret" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_header_tells_what_is_shown(image_files):
    """Size and channels are those of the picture as displayed, for every sample."""
    wide = {"png-16", "png-rgb16"}
    grey = {"jpeg-grey", "png-grey", "png-1", "png-2", "png-16"}
    for name, data in image_files.items():
        size = (23, 19)
        if name.endswith("-exif"):
            size = (19, 23)  # orientation 6: a quarter turn
        elif name == "jpeg-reduced":
            size = (131, 67)
        expected = Header(
            TYPES[name.partition("-")[0]],
            *size,
            1 if name in grey else 3,
            16 if name in wide else 8,
        )
        assert header(data) == expected, name

"""Pictures that are odd, hostile or break a decoder, sent to a real service."""

import io
import logging
from collections.abc import Callable

import numpy as np
import pytest
import simplejpeg
from PIL import ExifTags, Image, ImageFile, PngImagePlugin, WebPImagePlugin

from handful_bundle.errors import ImageUnreadable
from handful_bundle.manifest import ImageSpec
from handful_bundle.pixels import decode
from handful_service import multipart
from handful_service.errors import ServiceError

MARK = "sEcReT-mArK"  # sent, and never to be seen again
# How a picture is stored so that it is shown upright, by the number that Exif gives the way.
STORED: dict[int, Callable[[Image.Image], Image.Image]] = {
    1: lambda shown: shown,
    2: lambda shown: shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda shown: shown.transpose(Image.Transpose.ROTATE_180),
    4: lambda shown: shown.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda shown: shown.transpose(Image.Transpose.TRANSPOSE),
    6: lambda shown: shown.transpose(Image.Transpose.ROTATE_90),
    7: lambda shown: shown.transpose(Image.Transpose.TRANSVERSE),
    8: lambda shown: shown.transpose(Image.Transpose.ROTATE_270),
}


def file_of(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def embed(server, files: list[bytes]) -> np.ndarray:
    """[n, E]; none of the files may fail."""
    parts = [("images", ("x", data, "application/octet-stream")) for data in files]
    found = server.client.post("/embed", files=parts).json()
    assert found["errors"] == []
    return np.array(found["embeddings"])


@pytest.fixture(scope="module")
def shown() -> Image.Image:
    """A picture whose turns all differ: 48 x 32, smooth."""
    coarse = np.random.default_rng(4).integers(0, 256, (4, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((48, 32))


@pytest.mark.parametrize(("kind", "tolerance"), [("PNG", 0.0), ("WEBP", 0.0), ("JPEG", 0.02)])
def test_every_orientation_has_one_embedding(server, shown, kind, tolerance) -> None:
    """However Exif says that a picture is stored, its embedding is the upright one's; a file that
    does not say so has another.
    """
    options = {"lossless": True} if kind == "WEBP" else {"quality": 98, "subsampling": 0}
    files, silent = [], []
    for orientation, store in STORED.items():
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        files.append(file_of(store(shown), kind, exif=exif, **options))
        silent.append(file_of(store(shown), kind, **options))
    upright, *others = embed(server, files)
    assert np.abs(np.array(others) - upright).max() <= tolerance
    apart = np.abs(embed(server, silent)[1:] - upright).max(axis=1)
    assert apart.min() > max(0.05, 2 * tolerance)


def test_metadata_are_neither_used_nor_logged(serve, bundle_dir, shown) -> None:
    """Profiles, Exif, XMP and text of a picture change no number of its embedding and stand in no
    answer and in no line of the log.
    """
    server = serve(bundle_dir, HANDFUL_LOG_LEVEL="debug").wait_ready()
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = exif[ExifTags.Base.Artist] = MARK
    text = PngImagePlugin.PngInfo()
    text.add_text(MARK, MARK * 1000, zip=True)
    text.add_itxt(MARK, MARK, MARK, MARK)
    profile = (MARK * 100).encode()
    said = {
        "PNG": {"exif": exif, "icc_profile": profile, "pnginfo": text},
        "WEBP": {"exif": exif, "icc_profile": profile, "xmp": profile},
        "JPEG": {"exif": exif, "icc_profile": profile, "xmp": profile, "comment": profile},
    }
    for kind, metadata in said.items():
        options = {"lossless": True} if kind == "WEBP" else {}
        hostile = file_of(shown, kind, **options, **metadata)
        assert MARK.encode() in hostile
        plain, found = embed(server, [file_of(shown, kind, **options), hostile])
        np.testing.assert_array_equal(found, plain)
        broken = server.client.post("/embed", files=[("images", (MARK, hostile[:-40], MARK))])
        assert broken.json()["errors"]
        assert MARK not in broken.text
    assert server.stop() == 0
    assert MARK not in server.logged()


@pytest.mark.parametrize(
    "raised", [RuntimeError(MARK), MemoryError(MARK), SyntaxError(MARK), RecursionError(MARK)]
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_whatever_a_decoder_raises_is_the_images_fault(
    monkeypatch, caplog, shown, raised, kind
) -> None:
    """Any exception of a decoder is `image_unreadable`, in words that quote nothing of it."""
    caplog.set_level(logging.DEBUG)

    def fail(*_: object, **__: object) -> None:
        raise raised

    data = file_of(shown, kind)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", fail)
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail, raising=False)
    monkeypatch.setattr(WebPImagePlugin.WebPImageFile, "load", fail)
    with pytest.raises(ImageUnreadable) as caught:
        decode(data, ImageSpec(height=16, width=16, channels=3))
    assert MARK not in str(caught.value)
    assert caught.value.__suppress_context__
    assert MARK not in caplog.text


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"--BB" + b"\r\n--BBxy" * 500_000, "multipart_invalid"),
        (
            b'--BB\r\nContent-Disposition: form-data; name="images"\r\n\r\nx\r\n' * 50_000
            + b"--BB--",
            "too_many_items",
        ),
        (b"--BB\r\n" + b"a: b\r\n" * 500_000 + b"\r\nx\r\n--BB--", "multipart_invalid"),
        (b"--BB\r\na: " + b"b" * 3_000_000 + b"\r\n\r\nx\r\n--BB--", "multipart_invalid"),
    ],
    ids=["boundaries", "parts", "headers", "header"],
)
def test_floods_of_parts_are_refused_unread(body, code) -> None:
    """However many boundaries, parts or headers a body has, few of them are ever made objects."""
    made = 0

    class Cut(bytes):
        """Bytes that count what is cut out of them."""

        def split(self, *limits: object) -> list[bytes]:
            nonlocal made
            pieces = super().split(*limits)
            made += len(pieces)
            return pieces

    with pytest.raises(ServiceError) as caught:
        multipart.read_multipart(Cut(body), "multipart/form-data; boundary=BB", 100)
    assert caught.value.code == code
    assert 2 <= made <= 102  # none: they are cut out in a way that is not counted

"""multipart/form-data (RFC 7578) → the images in it.

The body is in memory already and bounded, so its parts are cut out of it: no temporary files.
"""

import re
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from handful_service.decoding import EncodedImage
from handful_service.errors import ServiceError

FIELD = "images"
_REMEDY = f"send each image as a part named `{FIELD}`: curl -F {FIELD}=@FILE …"
# Part headers that leave the format open.
_ANY_TYPE = ("", "application/octet-stream")
# The names of headers have no case, the name of the field has; a head has at most 1 KiB or so.
_PLAIN_HEAD = re.compile(
    rb'\r\n(?i:Content-Disposition: form-data); name="images"(?:; filename="[^"\\\r\n]{0,999}")?'
    rb"(?:\r\n(?i:Content-Type): ([A-Za-z0-9.+/-]{1,99}))?"
)


@dataclass
class _Part:
    headers: dict[str, str] = field(default_factory=dict)  # by name in lower case
    pieces: list[bytes] = field(default_factory=list)


class _Collector:
    """Follows the parser's events and gathers parts."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[_Part] = []
        self._max_parts = max_parts
        self._name = b""
        self._value = b""
        self.ended = False

    def on_part_begin(self) -> None:
        if len(self.parts) == self._max_parts:
            raise ServiceError(
                "too_many_items", f"At most {self._max_parts} images a request; send several."
            )
        self.parts.append(_Part())

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        name, value = self._name.decode("latin-1").lower(), self._value.decode("latin-1")
        value = value.replace("\r", "").replace("\n", "")
        self.parts[-1].headers.setdefault(name, value)
        self._name = self._value = b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].pieces.append(data[start:end])

    def on_end(self) -> None:
        self.ended = True


def read_multipart(body: bytes, content_type: str, max_parts: int) -> list[EncodedImage]:
    """Return the images in `body`, in their order.

    Raises:
        ServiceError: malformed, cut off, more than `max_parts`, or parts of another name.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise ServiceError("multipart_invalid", "Content-Type names no boundary.")
    plain = _read_plain(body, boundary, max_parts)
    return _read_any(body, boundary, max_parts) if plain is None else plain


def _read_plain(body: bytes, boundary: bytes, max_parts: int) -> list[EncodedImage] | None:
    """Cut a body as clients write it; None if it is written in any other way.

    The boundary stands nowhere but between parts (RFC 2046, section 5.1.1), so finding it is
    enough: a fifth of the time that looking at every byte takes.
    """
    between = b"\r\n--" + boundary
    opening = b"--" + boundary
    # A body may begin with its first boundary at once. More parts than are allowed stay uncut.
    first, *parts = body.split(between, max_parts)
    if not first.startswith(opening) or not parts or parts.pop() not in (b"--", b"--\r\n"):
        return None
    images: list[EncodedImage] = []
    for part in (first[len(opening) :], *parts):
        head, blank, data = part.partition(b"\r\n\r\n")
        found = _PLAIN_HEAD.fullmatch(head)
        if found is None or not blank or len(images) == max_parts:
            return None
        images.append(EncodedImage(data, _declared((found[1] or b"").decode())))
    return images


def _read_any(body: bytes, boundary: bytes, max_parts: int) -> list[EncodedImage]:
    found = _Collector(max_parts)
    events = {name: getattr(found, name) for name in dir(found) if name.startswith("on_")}
    try:
        parser = MultipartParser(boundary, events)  # type: ignore[arg-type]  # a TypedDict by name
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise ServiceError(
            "multipart_invalid", f"The parts cannot be told apart; {_REMEDY}"
        ) from error
    if not found.ended:
        raise ServiceError("multipart_invalid", f"The last boundary is missing; {_REMEDY}")
    return [_image(part) for part in found.parts]


def _image(part: _Part) -> EncodedImage:
    # Without name*0=: RFC 7578, section 4.2, allows no such parameters, and `email` fails at some.
    _, options = parse_options_header(part.headers.get("content-disposition", ""))
    if options.get(b"name") != FIELD.encode():
        raise ServiceError("multipart_invalid", f"A part has another name; {_REMEDY}")
    kind = part.headers.get("content-type", "").split(";")[0]
    return EncodedImage(b"".join(part.pieces), _declared(kind))


def _declared(kind: str) -> str | None:
    """Return the media type that a part declares, None where that is left open."""
    kind = kind.strip().lower()
    return None if kind in _ANY_TYPE else kind

"""multipart/form-data (RFC 7578) → the images in it.

The body is in memory already and bounded, so its parts are cut out of it: no temporary files.
"""

from dataclasses import dataclass, field
from email.message import Message

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from handful_service.decoding import EncodedImage
from handful_service.errors import ServiceError

FIELD = "images"
_REMEDY = f"send each image as a part named `{FIELD}`: curl -F {FIELD}=@FILE …"
# Part headers that leave the format open.
_ANY_TYPE = ("", "application/octet-stream")


@dataclass
class _Part:
    headers: Message = field(default_factory=Message)
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
            raise ServiceError("too_many_items", f"At most {self._max_parts} images a request.")
        self.parts.append(_Part())

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        name, value = self._name.decode("latin-1"), self._value.decode("latin-1")
        self.parts[-1].headers[name] = value.replace("\r", "").replace("\n", "")
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
    if part.headers.get_param("name", header="content-disposition") != FIELD:
        raise ServiceError("multipart_invalid", f"A part has another name; {_REMEDY}")
    declared = part.headers.get("content-type", "").split(";")[0].strip().lower()
    return EncodedImage(b"".join(part.pieces), None if declared in _ANY_TYPE else declared)

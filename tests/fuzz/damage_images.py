"""Ways to damage an image file: blindly, and along its structure, so that the damage gets past
checksums and lengths to what lies behind them.
"""

import random
import struct
import zlib

PNG, RIFF = b"\x89PNG\r\n\x1a\n", b"RIFF"
SIZES = (0, 1, 2, 3, 7, 8, 9, 16, 19, 23, 255, 256, 1023, 4096, 16384, 32768, 65535)
LENGTHS = (0, 1, 3, 4, 12, 13, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
_KEYWORDS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fdAT", b"eXIf", b"iCCP")
_FOURCC = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"ICCP", b"XMP ")

Chunks = list[tuple[bytes, bytes]]


def damage(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Return `data` damaged in a few ways; `other` is a file to take pieces from."""
    if dice.random() < 0.6:
        try:
            data = _along_its_structure(data, other, dice)
        except (
            struct.error,
            LookupError,
            StopIteration,
            ValueError,
            zlib.error,
        ):  # no such structure any more
            return blindly(data, other, dice)
        if dice.random() < 0.6:
            return data
    return blindly(data, other, dice)


def blindly(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Change, drop, repeat, insert or splice some bytes, or cut the file off."""
    damaged = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 4, 16))):
        if not damaged:
            break
        place = dice.randrange(len(damaged))
        match dice.randrange(9):
            case 0 | 1:
                damaged[place] ^= 1 << dice.randrange(8)
            case 2:
                damaged[place] = dice.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
            case 3:
                order = dice.choice("<>")
                damaged[place : place + 4] = struct.pack(f"{order}I", dice.choice(LENGTHS))
            case 4:
                del damaged[place : place + dice.randrange(1, 40)]
            case 5:
                damaged[place:place] = damaged[place : place + dice.randrange(1, 40)]
            case 6:
                damaged[place:place] = dice.randbytes(dice.randrange(1, 20))
            case 7:
                begin = dice.randrange(len(other))
                damaged[place:] = other[begin:]
            case _:
                del damaged[place:]
    return bytes(damaged)


def _along_its_structure(data: bytes, other: bytes, dice: random.Random) -> bytes:
    if data.startswith(PNG):
        return _png(data, other, dice)
    if data.startswith(RIFF):
        return _webp(data, other, dice)
    return _jpeg(data, other, dice)


def _rearranged(parts: list, others: list, dice: random.Random) -> list:
    """Repeat, drop, exchange or add a part."""
    parts = list(parts)
    first, second = dice.randrange(len(parts)), dice.randrange(len(parts))
    match dice.randrange(4):
        case 0:
            parts.insert(first, parts[second])
        case 1:
            del parts[first]
        case 2:
            parts[first], parts[second] = parts[second], parts[first]
        case _:
            parts.insert(first, dice.choice(others))
    return parts


def some_bytes(body: bytes, dice: random.Random) -> bytes:
    """Change some bytes, and perhaps cut the rest off."""
    damaged = bytearray(body)
    for _ in range(dice.choice((1, 1, 2, 8))):
        if damaged:
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
    return bytes(damaged[: dice.randrange(len(damaged) + 1)] if dice.random() < 0.2 else damaged)


def _in_any_container(
    chunks: Chunks, others: Chunks, number: int, way: int, kinds: tuple[bytes, ...],
    dice: random.Random,
) -> tuple[Chunks, dict[int, int]]:  # fmt: skip
    """Do to chunk `number` what PNG and WebP have in common; return all, and lengths that lie."""
    kind, body = chunks[number]
    lies = {}
    match way:
        case 3:
            return _rearranged(chunks, others, dice), {}
        case 4:
            lies[number] = dice.choice((*LENGTHS, max(0, len(body) - 1), len(body) + 1))
        case 5:
            kind = dice.choice(kinds)
        case _:
            body = some_bytes(body, dice)
    chunks[number] = (kind, body)
    return chunks, lies


# PNG


def png_chunks(data: bytes) -> Chunks:
    """Return kind and body of each chunk."""
    found, position = [], len(PNG)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        found.append((kind, data[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def _png(data: bytes, other: bytes, dice: random.Random) -> bytes:
    chunks = png_chunks(data)
    number = dice.randrange(len(chunks))
    kind, body = chunks[number]
    match dice.randrange(8):
        case 0:
            kind, body = chunks[0]
            fields = list(struct.unpack(">IIBBBBB", body))
            which = dice.randrange(7)
            fields[which] = dice.choice(SIZES) if which < 2 else dice.randrange(18)
            number, body = 0, struct.pack(">IIBBBBB", *(field % 2**32 for field in fields))
        case 6:
            number = next(at for at, chunk in enumerate(chunks) if chunk[0] == b"IDAT")
            kind = b"IDAT"
            rows = some_bytes(zlib.decompress(chunks[number][1]), dice)
            body = zlib.compress(rows * dice.choice((1, 1, 1, 2)))
        case 7:
            cut = dice.randrange(len(body) + 1)
            chunks.insert(number, (kind, body[:cut]))
            number, body = number + 1, body[cut:]
        case way:
            others = png_chunks(other) if other.startswith(PNG) else chunks
            return _png_file(*_in_any_container(chunks, others, number, way, _KEYWORDS, dice))
    chunks[number] = (kind, body)
    return _png_file(chunks, {})


def _png_file(chunks: Chunks, lies: dict[int, int]) -> bytes:
    """Return a PNG file with right checksums, and of some chunks wrong lengths."""
    pieces = [PNG]
    for number, (kind, body) in enumerate(chunks):
        length = lies.get(number, len(body))
        checksum = zlib.crc32(kind + body[:length])
        pieces += [struct.pack(">I", length), kind, body, struct.pack(">I", checksum)]
    return b"".join(pieces)


# WebP


def webp_chunks(data: bytes) -> Chunks:
    """Return name and body of each chunk of the container."""
    found, position = [], 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        found.append((kind, data[position + 8 : position + 8 + length]))
        position += 8 + length + length % 2
    return found


def _webp(data: bytes, other: bytes, dice: random.Random) -> bytes:
    chunks = webp_chunks(data)
    number = dice.randrange(len(chunks))
    match dice.randrange(6):
        case 0 | 1:  # mostly the head of a chunk, where sizes and flags stand
            kind, body = chunks[number]
            chunks[number] = (kind, some_bytes(body[:12], dice) + body[12:])
            return _webp_file(chunks, {})
        case way:
            others = webp_chunks(other) if other.startswith(RIFF) else chunks
            return _webp_file(*_in_any_container(chunks, others, number, way, _FOURCC, dice))


def _webp_file(chunks: Chunks, lies: dict[int, int]) -> bytes:
    """Return a WebP file whose own length is right, and of some chunks wrong ones."""
    pieces = [b"WEBP"]
    for number, (kind, body) in enumerate(chunks):
        length = lies.get(number, len(body))
        pieces += [kind, struct.pack("<I", length), body, b"\0" * (len(body) % 2)]
    content = b"".join(pieces)
    return RIFF + struct.pack("<I", len(content)) + content


# JPEG


def jpeg_segments(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the segments before the first scan's data, each with its marker, and those data."""
    found, position = [data[:2]], 2
    while True:
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + length
        found.append(data[position:end])
        if data[position + 1] == 0xDA:
            return found, data[end:]
        position = end


def _jpeg(data: bytes, other: bytes, dice: random.Random) -> bytes:
    segments, scan = jpeg_segments(data)
    number = dice.randrange(1, len(segments))
    segment = bytearray(segments[number])
    match dice.randrange(8):
        case 0:  # sizes, in the start of frame
            number = next(at for at, one in enumerate(segments) if one[1] in (0xC0, 0xC1, 0xC2))
            segment = bytearray(segments[number])
            struct.pack_into(">H", segment, dice.choice((5, 7)), dice.choice(SIZES))
        case 1 | 2:
            segment[4:] = some_bytes(bytes(segment[4:]), dice)
        case 3:
            others = segments
            if other.startswith(b"\xff\xd8"):
                others = jpeg_segments(other)[0]
            return b"".join(_rearranged(segments, others, dice)) + scan
        case 4:
            struct.pack_into(">H", segment, 2, dice.choice(LENGTHS) % 2**16)
        case 5:
            segment[1] = dice.choice((0xC0, 0xC2, 0xC4, 0xDB, 0xDA, 0xDD, 0xE1, 0xEE, 0xFE, 0xC9))
        case 6:
            scan = some_bytes(scan, dice)
        case _:  # restart markers where none are expected
            segments.insert(number, b"\xff\xdd\0\4" + struct.pack(">H", dice.choice(SIZES) % 2**16))
            number, segment = 0, bytearray(segments[0])
    segments[number] = bytes(segment)
    return b"".join(segments) + scan

"""Ways to damage what requests hold: npy files and multipart bodies."""

import random
import struct

from damage_images import LENGTHS, SIZES, blindly, some_bytes

_TYPES = ("'|u1'", "'<f4'", "'>f4'", "'|O'", "'<U9'", "[('a', '|u1')]", "'|V1'", "'|b1'", "5", "''")


def _shape(dice: random.Random) -> str:
    """Return what may stand where a shape is expected."""
    sizes = [dice.choice(SIZES), dice.choice(SIZES), 8, 3]
    huge = [dice.choice(LENGTHS), 2**63, 10**40]
    negative = [-dice.choice(SIZES), 8, 8, 3]
    deep = "(" * dice.choice((1, 50, 1500))
    odd = ["(True, 2.0, '8', None)", "()", "[2, 8, 8, 3]", "2 ** 99", deep]
    return dice.choice([str(tuple(sizes)), str(tuple(huge)), str(tuple(negative)), *odd])


def npy(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Return an npy file damaged blindly, or with a header that lies."""
    if dice.random() < 0.4 or len(data) < 12:
        return blindly(data, other, dice)
    (length,) = struct.unpack_from("<H", data, 8)
    header, rest = data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    match dice.randrange(5):
        case 0:
            begin, end = header.find("("), header.find(")") + 1
            header = header[:begin] + _shape(dice) + header[end:]
        case 1:
            header = header.replace("'|u1'", dice.choice(_TYPES)).replace(
                "'<f4'", dice.choice(_TYPES)
            )
        case 2:
            header = header.replace("False", dice.choice(("True", "1", "None", "[]", "False#")))
        case 3:
            header = some_bytes(header.encode("latin-1"), dice).decode("latin-1")
        case _:
            length = dice.choice((*SIZES, length - 1, length + 1))
            return data[:8] + struct.pack("<H", length % 2**16) + data[10:]
    raw = header.encode("latin-1")
    version = dice.choice((b"\1\0", b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\0\0"))
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(raw) % 2**16)
    return data[:6] + version + size + raw + rest


_PIECES = (
    b"\r\n", b"\n", b"\r", b"--", b"\r\n--B", b"\r\n--B--", b"\r\n--B\r\n", b"--B", b"--B--\r\n",
    b";", b'; filename="\xff"', b"; name*=utf-8''images", b"; name*0=ima; name*1=ges", b"; name*=a",
    b"; name*0=images", b'"',
    b"\\", b"\0",
    b"\r\n\r\n", b"\r\n ", b"Content-Type: image/png\r\n", b"Content-Type:", b": ", b" ", b"\t",
    b"Content-Transfer-Encoding: base64\r\n", b'Content-Disposition: form-data; name="images"\r\n',
    b"Content-Disposition: form-data; name=images", b"a" * 9000, b"\r\n--B\r\n" * 50,
)  # fmt: skip


def multipart(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Return a multipart body whose boundary is B, damaged mostly where its parts meet."""
    damaged = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 3))):
        marks = [at for at in range(len(damaged)) if damaged.startswith((b"\r\n", b"--B"), at)]
        near = dice.choice(marks or [0]) + dice.randrange(-3, 60)
        place = min(max(0, near), len(damaged))
        match dice.randrange(4):
            case 0:
                damaged[place:place] = dice.choice(_PIECES)
            case 1:
                damaged[place : place + dice.choice((1, 2, 9))] = dice.choice(_PIECES)
            case 2:
                del damaged[place : place + dice.choice((1, 1, 2, 4, 60))]
            case _:
                return blindly(bytes(damaged), other, dice)
    return bytes(damaged)

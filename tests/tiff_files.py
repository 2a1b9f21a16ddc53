"""TIFF files of every kind, written without the code under test (and without libtiff)."""

import struct
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

COMPRESSIONS = {"none": 1, "lzw": 5, "deflate": 8, "packbits": 32773}
_LAYOUTS = {1: "B", 2: "B", 3: "H", 4: "I"}

Tag = tuple[int, int, Iterable[int]]  # number, type, values


def write_tiff(
    samples: NDArray,
    *,
    order: str = "<",
    compression: str = "none",
    tile: tuple[int, int] | None = None,
    rows: int | None = None,
    predictor: bool = False,
    tags: Iterable[Tag] = (),
    pages: Iterable[Iterable[Tag]] = (),
) -> bytes:
    """Return a TIFF file of unsigned `samples` [h, w, c]; c = 2 and 4 have straight alpha.

    Args:
        samples: uint8 or uint16.
        order: of bytes, < or >.
        compression: a key of `COMPRESSIONS`.
        tile: height and width of the tiles, else there are strips.
        rows: of a strip; all, if None.
        predictor: store differences to the pixel to the left.
        tags: instead of, or besides, the picture's own.
        pages: tags of further directories, which share the picture's data.
    """
    height, width, channels = samples.shape
    step = tile or (rows or height, width)
    pieces = [
        _packed(piece, order, compression, predictor=predictor)
        for piece in _cut(samples, step, whole=tile is not None)
    ]
    starts = np.cumsum([8, *(len(piece) + len(piece) % 2 for piece in pieces)]).tolist()
    colours = 1 if channels < 3 else 3
    own: dict[int, tuple[int, Iterable[int]]] = {
        256: (3, [width]),
        257: (3, [height]),
        258: (3, [8 * samples.itemsize] * channels),
        259: (3, [COMPRESSIONS[compression]]),
        262: (3, [1 if colours == 1 else 2]),
        277: (3, [channels]),
    }
    if tile:
        own |= {322: (3, [tile[1]]), 323: (3, [tile[0]])}
    else:
        own[278] = (3, [step[0]])
    own[324 if tile else 273] = (4, starts[:-1])
    own[325 if tile else 279] = (4, [len(piece) for piece in pieces])
    if channels > colours:
        own[338] = (3, [2])
    if predictor:
        own[317] = (3, [2])
    body = b"".join(piece + bytes(len(piece) % 2) for piece in pieces)
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", starts[-1]) + body
    pages = list(pages)
    for i, more in enumerate([tags, *pages]):
        changed = own | {tag: (kind, values) for tag, kind, values in more}
        data += _directory(changed, order, len(data), last=i == len(pages))
    return data


def _directory(
    tags: dict[int, tuple[int, Iterable[int]]], order: str, start: int, *, last: bool
) -> bytes:
    entries, far = b"", b""
    behind = start + 2 + 12 * len(tags) + 4
    for tag, (kind, given) in sorted(tags.items()):
        values = list(given)
        raw = struct.pack(f"{order}{len(values)}{_LAYOUTS[kind]}", *values)
        if len(raw) > 4:
            place = struct.pack(order + "I", behind + len(far))
            far += raw + bytes(len(raw) % 2)
        else:
            place = raw.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + place
    following = 0 if last else behind + len(far)
    return struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", following) + far


def _cut(samples: NDArray, step: tuple[int, int], *, whole: bool) -> list[NDArray]:
    """Return the strips, or the tiles, which are filled up at the right and the bottom."""
    height, width = samples.shape[:2]
    pieces = []
    for top in range(0, height, step[0]):
        for left in range(0, width, step[1]):
            piece = samples[top : top + step[0], left : left + step[1]]
            if whole:
                missing = (step[0] - piece.shape[0], step[1] - piece.shape[1])
                piece = np.pad(piece, ((0, missing[0]), (0, missing[1]), (0, 0)), "edge")
            pieces.append(piece)
    return pieces


def _packed(piece: NDArray, order: str, compression: str, *, predictor: bool) -> bytes:
    if predictor:
        piece = piece.copy()
        piece[:, 1:] -= piece[:, :-1].copy()
    rows = piece.astype(f"{order}u{piece.itemsize}").reshape(len(piece), -1).view(np.uint8)
    if compression == "packbits":  # a row may not run into the next
        return b"".join(_literal_runs(row.tobytes()) for row in rows)
    raw = rows.tobytes()
    return {"none": bytes, "deflate": zlib.compress, "lzw": _lzw}[compression](raw)


def _literal_runs(row: bytes) -> bytes:
    parts = [row[at : at + 128] for at in range(0, len(row), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def _lzw(raw: bytes) -> bytes:
    """Return `raw` as codes of 9 bits: the table is cleared before it would need ten."""
    codes: list[int] = []
    for at in range(0, len(raw), 250):
        codes += [256, *raw[at : at + 250]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")

# SPDX-License-Identifier: Apache-2.0
"""Valid messages of both directions of RFB, by name, and strategies that combine and split them."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from systemvm.cpvm.filter.encodings import Encoding

WIDTH, HEIGHT = 40, 20
PIXEL_FORMAT = bytes((32, 24, 0, 1)) + b"\0\xff\0\xff\0\xff" + bytes((16, 8, 0)) + bytes(3)
PIXEL = b"\x01\x02\x03\x04"
TIGHT_PIXEL = PIXEL[:3]


def u16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def u32(number: int) -> bytes:
    return (number % (1 << 32)).to_bytes(4, "big")


def encodings(*numbers: int) -> bytes:
    return b"\x02\0" + u16(len(numbers)) + b"".join(u32(number) for number in numbers)


def cut_text(kind: int, text: bytes) -> bytes:
    return bytes((kind, 0, 0, 0)) + u32(len(text)) + text


def extended(kind: int, flags: int, body: bytes = b"") -> bytes:
    return bytes((kind, 0, 0, 0)) + u32(-4 - len(body)) + u32(flags) + body


def rectangle(
    encoding: int, body: bytes = b"", width: int = WIDTH, height: int = HEIGHT, y: int = 0
) -> bytes:
    return u16(0) + u16(y) + u16(width) + u16(height) + u32(encoding) + body


def update(*rectangles: bytes, count: int | None = None) -> bytes:
    return b"\0\0" + u16(len(rectangles) if count is None else count) + b"".join(rectangles)


def compact(data: bytes) -> bytes:
    """Encode data behind the length that Tight uses."""
    length = len(data)
    if length < 1 << 7:
        return bytes((length,)) + data
    if length < 1 << 14:
        return bytes((length & 0x7F | 0x80, length >> 7)) + data
    return bytes((length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14)) + data


PIXELS = bytes(range(256)) * 13
RAW = PIXELS[: WIDTH * HEIGHT * 4]
PACKED = zlib.compress(RAW)
TEXT = u32(3) + b"hi\0"
CAPS, REQUEST, PEEK, NOTIFY, PROVIDE = (1 << bit for bit in range(24, 29))

#: 3 x 2 tiles of at most 16 pixels: raw, one colour, two colours, the last ones, and two kinds of parts.
HEXTILE = (
    b"\x01" + RAW[: 16 * 16 * 4]
    + b"\x02" + PIXEL
    + b"\x06" + 2 * PIXEL
    + b"\x00"
    + b"\x0e" + 2 * PIXEL + b"\x02" + b"\x00\x11" * 2
    + b"\x18" + b"\x02" + (PIXEL + b"\x00\x11") * 2
)  # fmt: skip

CLIENT = {
    "pixel format": b"\0\0\0\0" + PIXEL_FORMAT,
    "encodings": encodings(Encoding.TIGHT, Encoding.RAW, Encoding.CURSOR, -26),
    "request": b"\x03\x01" + bytes(4) + u16(WIDTH) + u16(HEIGHT),
    "key": b"\x04\x01\0\0" + u32(0xFF0D),
    "pointer": b"\x05\xff" + u16(1) + u16(2),
    "cut text": cut_text(6, b"abc"),
    "empty cut text": cut_text(6, b""),
    "caps": extended(6, CAPS | REQUEST | PEEK | NOTIFY | PROVIDE | 1, u32(0)),
    "ask": extended(6, REQUEST | 1),
    "peek": extended(6, PEEK),
    "notify": extended(6, NOTIFY | 1),
    "provide": extended(6, PROVIDE | 1, zlib.compress(TEXT)),
    "continuous updates": b"\x96\x01" + bytes(4) + u16(WIDTH) + u16(HEIGHT),
    "fence": b"\xf8\0\0\0" + u32(3) + b"\x05hello",
    "power": b"\xfa\0\x01\x02",
    "desktop size": b"\xfb\0" + u16(800) + u16(600) + b"\x02\0" + bytes(32),
    "QEMU key": b"\xff\0" + u16(1) + u32(0x61) + u32(30),
    "audio on": b"\xff\x01\0\0",
    "audio format": b"\xff\x01\0\x02" + bytes(6),
}

TIGHT = {
    "fill": b"\x80" + TIGHT_PIXEL,
    "JPEG": b"\x90" + compact(b"\xff\xd8" + bytes(200)),
    "PNG": b"\xa0" + compact(bytes(20_000)),
    "copy": b"\x00" + compact(PACKED),
    "copy filter": b"\x4f\x00" + compact(PACKED),
    "two colours": b"\x50\x01\x01" + 2 * TIGHT_PIXEL + compact(PACKED[:90]),
    "palette": b"\x60\x01\x03" + 4 * TIGHT_PIXEL + compact(PACKED),
    "gradient": b"\x70\x02" + compact(PACKED),
}

RECTANGLES = {
    "raw": rectangle(Encoding.RAW, RAW),
    "copy": rectangle(Encoding.COPY_RECT, bytes(4)),
    "RRE": rectangle(Encoding.RRE, u32(2) + PIXEL + 2 * (PIXEL + bytes(8))),
    "hextile": rectangle(Encoding.HEXTILE, HEXTILE),
    "zlib": rectangle(Encoding.ZLIB, u32(len(PACKED)) + PACKED),
    "ZRLE": rectangle(Encoding.ZRLE, u32(len(PACKED)) + PACKED),
    **{f"tight {name}": rectangle(Encoding.TIGHT, body) for name, body in TIGHT.items()},
    "tight short": rectangle(Encoding.TIGHT, b"\x00" + bytes(9), 3, 1),
    "tight short palette": rectangle(Encoding.TIGHT, b"\x40\x01\x01" + 2 * TIGHT_PIXEL + bytes(11), 8, 11),
    "tight PNG": rectangle(Encoding.TIGHT_PNG, TIGHT["PNG"]),
    "tight PNG fill": rectangle(Encoding.TIGHT_PNG, TIGHT["fill"]),
    "desktop size": rectangle(Encoding.DESKTOP_SIZE),
    "extended desktop size": rectangle(Encoding.EXTENDED_DESKTOP_SIZE, b"\x01\0\0\0" + bytes(16)),
    "cursor": rectangle(Encoding.CURSOR, bytes(9 * 2 * 4 + 2 * 2), 9, 2),
    "VMware's cursor": rectangle(Encoding.VMWARE_CURSOR, b"\0\0" + bytes(9 * 2 * 8), 9, 2),
    "VMware's alpha cursor": rectangle(Encoding.VMWARE_CURSOR, b"\x01\0" + bytes(9 * 2 * 4), 9, 2),
    "LED": rectangle(Encoding.LED_STATE, b"\x02"),
    "name": rectangle(Encoding.DESKTOP_NAME, u32(4) + b"evil"),
    "QEMU keys": rectangle(Encoding.QEMU_EXTENDED_KEY_EVENT),
    "pointer type": rectangle(Encoding.POINTER_TYPE_CHANGE),
}

SERVER = {
    **{name: update(body) for name, body in RECTANGLES.items()},
    "empty update": update(),
    "last rectangle": update(RECTANGLES["raw"], rectangle(Encoding.LAST_RECT), count=0xFFFF),
    "colour map": b"\x01\0\0\0" + u16(2) + bytes(12),
    "bell": b"\x02",
    "cut text": cut_text(3, b"secret"),
    "caps": extended(3, CAPS | REQUEST | PEEK | NOTIFY | PROVIDE | 1, u32(0)),
    "ask": extended(3, REQUEST | 1),
    "notify": extended(3, NOTIFY | 1),
    "provide": extended(3, PROVIDE | 1, zlib.compress(TEXT)),
    "end of continuous updates": b"\x96",
    "fence": b"\xf8\0\0\0" + u32(1 << 31) + b"\x05hello",
    "power": b"\xfa\0\x01\x01",
}


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Split data at these places."""
    places = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


def names(samples: dict[str, bytes]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(sorted(samples)), max_size=6)


def cuts_of(data: bytes) -> st.SearchStrategy[Sequence[int]]:
    return st.lists(st.integers(0, max(0, len(data) - 1)), max_size=12)

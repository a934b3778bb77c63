# SPDX-License-Identifier: Apache-2.0
"""The bodies of rectangles of each encoding: how long they are, read as little as that needs.

Each function is a part of a scanner's script: it reads or skips the bytes of one rectangle.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from systemvm.cpvm.filter.encodings import Encoding
from systemvm.cpvm.filter.faults import FilterError, FilterFault
from systemvm.cpvm.filter.pixel_format import PixelFormat
from systemvm.cpvm.filter.scanner import Script
from systemvm.cpvm.filter.tight import tight, tight_png

MAX_NAME_BYTES = 4096

HEADER = struct.Struct(">HHHHi")
_TILE_PX = 16
_RAW, _BACKGROUND, _FOREGROUND, _SUBRECTANGLES, _COLOURED = 1, 2, 4, 8, 16


class Rectangle(NamedTuple):
    """The header of a rectangle (RFC 6143 section 7.6.1); there are thousands a second."""

    x: int
    y: int
    width: int
    height: int
    encoding: int

    @classmethod
    def parse(cls, head: bytes) -> Rectangle:
        return cls._make(HEADER.unpack(head))

    @property
    def area_px(self) -> int:
        return self.width * self.height


def _raw(rectangle: Rectangle, pixel: PixelFormat) -> Script:
    yield -rectangle.area_px * pixel.pixel_bytes


def _copy_rect(rectangle: Rectangle, pixel: PixelFormat) -> Script:
    yield -4


def _rre(rectangle: Rectangle, pixel: PixelFormat) -> Script:
    count = int.from_bytes((yield 4), "big")
    if count > rectangle.area_px:
        raise FilterError(FilterFault.TOO_LONG, f"rectangle has more parts than pixels: {count}")
    yield -(pixel.pixel_bytes + count * (pixel.pixel_bytes + 8))


def _hextile(rectangle: Rectangle, pixel: PixelFormat) -> Script:
    pixel_bytes = pixel.pixel_bytes
    for top in range(0, rectangle.height, _TILE_PX):
        height = min(_TILE_PX, rectangle.height - top)
        for left in range(0, rectangle.width, _TILE_PX):
            mask = (yield 1)[0]
            if mask & _RAW:
                yield -min(_TILE_PX, rectangle.width - left) * height * pixel_bytes
                continue
            colours = (bool(mask & _BACKGROUND) + bool(mask & _FOREGROUND)) * pixel_bytes
            if not mask & _SUBRECTANGLES:
                if colours:
                    yield -colours
                continue
            count = (yield colours + 1)[-1]
            yield -count * (2 + (pixel_bytes if mask & _COLOURED else 0))


def _compressed(rectangle: Rectangle, pixel: PixelFormat) -> Script:
    """Skip zlib data (Zlib and ZRLE), which cannot be much longer than what it holds."""
    if not rectangle.area_px:
        raise FilterError(FilterFault.MALFORMED, "compressed rectangle is empty")
    length = int.from_bytes((yield 4), "big")
    limit = 2 * rectangle.area_px * pixel.pixel_bytes + 4096
    if length > limit:
        raise FilterError(
            FilterFault.TOO_LONG, f"rectangle is too long: {length} bytes, the maximum is {limit}"
        )
    yield -length


def _cursor(rectangle: Rectangle, pixel: PixelFormat) -> Script:
    yield -(rectangle.area_px * pixel.pixel_bytes + (rectangle.width + 7) // 8 * rectangle.height)


def _vmware_cursor(rectangle: Rectangle, pixel: PixelFormat) -> Script:
    kind = (yield 2)[0]
    if kind > 1:
        raise FilterError(FilterFault.MALFORMED, f"unknown kind of cursor: {kind}")
    masks = 2 if kind == 0 else 1  # an and-mask and an xor-mask, or colours with alpha
    yield -masks * rectangle.area_px * 4


def _desktop_name(rectangle: Rectangle, pixel: PixelFormat) -> Script:
    length = int.from_bytes((yield 4), "big")
    if length > MAX_NAME_BYTES:
        raise FilterError(
            FilterFault.TOO_LONG, f"desktop name is too long: {length} bytes, the maximum is {MAX_NAME_BYTES}"
        )
    yield -length


def _extended_desktop_size(rectangle: Rectangle, pixel: PixelFormat) -> Script:
    screens = (yield 4)[0]
    yield -16 * screens


def _led_state(rectangle: Rectangle, pixel: PixelFormat) -> Script:
    yield -1


def _empty(rectangle: Rectangle, pixel: PixelFormat) -> Script:
    yield 0


Body = Callable[[Rectangle, PixelFormat], Script]

#: Rectangles that draw.
DRAWING: dict[int, Body] = {
    Encoding.RAW: _raw,
    Encoding.COPY_RECT: _copy_rect,
    Encoding.RRE: _rre,
    Encoding.HEXTILE: _hextile,
    Encoding.ZLIB: _compressed,
    Encoding.TIGHT: lambda rectangle, pixel: tight(rectangle.width, rectangle.height, pixel),
    Encoding.TIGHT_PNG: lambda rectangle, pixel: tight_png(pixel),
    Encoding.ZRLE: _compressed,
}

#: Rectangles that say something else.
STATING: dict[int, Body] = {
    Encoding.DESKTOP_SIZE: _empty,
    Encoding.LAST_RECT: _empty,
    Encoding.CURSOR: _cursor,
    Encoding.POINTER_TYPE_CHANGE: _empty,
    Encoding.QEMU_EXTENDED_KEY_EVENT: _empty,
    Encoding.LED_STATE: _led_state,
    Encoding.DESKTOP_NAME: _desktop_name,
    Encoding.EXTENDED_DESKTOP_SIZE: _extended_desktop_size,
    Encoding.VMWARE_CURSOR: _vmware_cursor,
}

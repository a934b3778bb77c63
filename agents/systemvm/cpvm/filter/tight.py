# SPDX-License-Identifier: Apache-2.0
"""The bodies of Tight and TightPNG rectangles: fills, images, and filtered pixels with or without zlib."""

from __future__ import annotations

from systemvm.cpvm.filter.faults import FilterError, FilterFault
from systemvm.cpvm.filter.pixel_format import PixelFormat
from systemvm.cpvm.filter.scanner import Script

_FILL, _JPEG, _PNG = 8, 9, 10
_EXPLICIT_FILTER, _NOT_BASIC = 4, 8
_COPY, _PALETTE, _GRADIENT = 0, 1, 2
#: Shorter data is not compressed, and has no length.
_MIN_COMPRESSED_BYTES = 12


def tight(width: int, height: int, pixel: PixelFormat) -> Script:
    control = (yield 1)[0] >> 4
    if not control & _NOT_BASIC:
        yield from _basic(control, width, height, _tight_pixel_bytes(pixel))
    elif control == _FILL:
        yield -_tight_pixel_bytes(pixel)
    elif control in (_JPEG, _PNG):
        yield from _data()
    else:
        raise FilterError(FilterFault.MALFORMED, f"unknown compression of Tight: {control}")


def tight_png(pixel: PixelFormat) -> Script:
    control = (yield 1)[0] >> 4
    if control == _FILL:
        yield -_tight_pixel_bytes(pixel)
    elif control in (_JPEG, _PNG):
        yield from _data()
    else:
        raise FilterError(FilterFault.MALFORMED, f"unknown compression of TightPNG: {control}")


def _basic(control: int, width: int, height: int, pixel_bytes: int) -> Script:
    chosen = (yield 1)[0] if control & _EXPLICIT_FILTER else _COPY
    if chosen in (_COPY, _GRADIENT):
        size_bytes = width * height * pixel_bytes
    elif chosen == _PALETTE:
        colours = (yield 1)[0] + 1
        yield -colours * pixel_bytes
        size_bytes = (width + 7) // 8 * height if colours <= 2 else width * height
    else:
        raise FilterError(FilterFault.MALFORMED, f"unknown filter of Tight: {chosen}")
    if size_bytes < _MIN_COMPRESSED_BYTES:
        yield -size_bytes
    else:
        yield from _data()


def _data() -> Script:
    """Skip data after its length, which has 7, 7 and 8 bits in up to three bytes: at most 4 MiB."""
    length, shift = 0, 0
    while True:
        byte = (yield 1)[0]
        if shift == 14:
            length |= byte << shift
            break
        length |= (byte & 0x7F) << shift
        if not byte & 0x80:
            break
        shift += 7
    yield -length


def _tight_pixel_bytes(pixel: PixelFormat) -> int:
    if pixel.tight_pixel_bytes is None:
        raise FilterError(FilterFault.PIXEL_FORMAT, "length of a Tight pixel of this format is not known")
    return pixel.tight_pixel_bytes

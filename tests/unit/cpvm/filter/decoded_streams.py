# SPDX-License-Identifier: Apache-2.0
"""Streams of pictures in each encoding, which a decoder reads."""

from __future__ import annotations

import io
import zlib

import numpy
from PIL import Image

from unit.cpvm.filter.rfb_samples import HEIGHT, RECTANGLES, WIDTH, compact, rectangle, u32

PICTURE = (numpy.arange(HEIGHT * WIDTH * 3) % 251).astype(numpy.uint8).reshape(HEIGHT, WIDTH, 3)
RAW = numpy.dstack([PICTURE, numpy.zeros((HEIGHT, WIDTH), numpy.uint8)]).tobytes()
COLOURS = bytes((1, 2, 3, 4, 5, 6))
#: 800 pixels of one colour, in ZRLE as one run of a palette of two.
RUN = b"\x82" + COLOURS + b"\x80" + bytes((255, 255, 255, 34))


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj()
    return stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)


def image(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, kind)
    return file.getvalue()


def counted(data: bytes) -> bytes:
    return u32(len(data)) + data


STREAMS = {
    "raw": rectangle(0, RAW),
    "hextile": RECTANGLES["hextile"],
    "zlib": rectangle(6, counted(deflated(RAW))),
    "ZRLE": rectangle(16, counted(deflated(b"\0" + PICTURE.tobytes()))),
    "ZRLE of runs": rectangle(16, counted(deflated(RUN))),
    "Tight": rectangle(7, b"\0" + compact(deflated(PICTURE.tobytes()))),
    "Tight of two colours": rectangle(7, b"\x50\x01\x01" + COLOURS + compact(deflated(bytes(5 * HEIGHT)))),
    "Tight of a palette": rectangle(
        7, b"\x60\x01\x02" + COLOURS + bytes(3) + compact(deflated(bytes(WIDTH * HEIGHT)))
    ),
    "Tight, filled": rectangle(7, b"\x80" + COLOURS[:3]),
    "Tight of JPEG": rectangle(7, b"\x90" + compact(image("JPEG"))),
    "TightPNG": rectangle(-260, b"\xa0" + compact(image("PNG"))),
    "copy": rectangle(1, bytes(4)),
    "cursor": RECTANGLES["cursor"],
    "name": RECTANGLES["name"],
    "sizes": RECTANGLES["extended desktop size"],
}

# SPDX-License-Identifier: Apache-2.0
"""A decoder of RFB that draws: an independent reader of what the console's filter only follows.

Pixels are noVNC's: 32 bits, of which the bytes are red, green, blue and nothing. Each rectangle is drawn as
soon as it is complete.
"""

from __future__ import annotations

import io
import zlib

import numpy
from PIL import Image

PIXEL_FORMAT = bytes((32, 24, 0, 1)) + b"\0\xff\0\xff\0\xff" + bytes((0, 8, 16)) + bytes(3)
#: Bytes of rectangles that draw nothing, where they are constant.
_CONSTANT = {-223: 0, -224: 0, -257: 0, -258: 0, -261: 1}


class _IncompleteError(Exception):
    pass


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if len(self._data) - self.at < count:
            raise _IncompleteError
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")


class RfbDecoder:
    """A screen of `width` by `height` pixels; `kinds` are the encodings and compressions that arrived."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels = numpy.zeros((height, width, 3), numpy.uint8)
        self.kinds: set[str] = set()
        self.updates = 0
        self._rest = b""
        self._rectangles = 0
        self._zlib = [zlib.decompressobj() for _ in range(6)]

    @property
    def is_between(self) -> bool:
        return not self._rest and not self._rectangles

    def feed(self, data: bytes) -> None:
        self._rest += data
        while self._rest:
            reader = _Reader(self._rest)
            try:
                (self._rectangle if self._rectangles else self._message)(reader)
            except _IncompleteError:
                return
            self._rest = self._rest[reader.at :]

    def _message(self, reader: _Reader) -> None:
        match reader.number(1):
            case 0:
                reader.take(1)
                self._rectangles = reader.number(2)
                self.updates += self._rectangles == 0
            case 2 | 150:
                pass
            case 3:
                reader.take(3)
                reader.take(abs(int.from_bytes(reader.take(4), "big", signed=True)))
            case 250:
                reader.take(3)
            case other:
                raise AssertionError(f"message {other}")

    def _rectangle(self, reader: _Reader) -> None:
        x, y, width, height = (reader.number(2) for _ in range(4))
        encoding = int.from_bytes(reader.take(4), "big", signed=True)
        area = self.pixels[y : y + height, x : x + width]
        match encoding:
            case 0:
                self._paint(area, _rgb(reader.take(4 * width * height), 4), "raw")
            case 1:
                source_x, source_y = reader.number(2), reader.number(2)
                area[:] = self.pixels[source_y : source_y + height, source_x : source_x + width].copy()
            case 5:
                self._hextile(reader, area)
            case 6:
                plain = self._zlib[4].decompress(reader.take(reader.number(4)))
                self._paint(area, _rgb(plain, 4), "zlib")
            case 7 | -260:
                self._tight(reader, area, encoding)
            case 16:
                self._zrle(self._zlib[5].decompress(reader.take(reader.number(4))), area)
            case -308:
                reader.take(3 + 16 * reader.number(1))
                self._resize(width, height)
            case -307:
                reader.take(reader.number(4))
            case -239:
                reader.take(4 * width * height + (width + 7) // 8 * height)
            case _:
                reader.take(_CONSTANT[encoding])
                if encoding == -223:
                    self._resize(width, height)
        self._rectangles -= 1
        self.updates += self._rectangles == 0

    def _resize(self, width: int, height: int) -> None:
        if self.pixels.shape[:2] != (height, width):
            self.pixels = numpy.zeros((height, width, 3), numpy.uint8)

    def _paint(self, area: numpy.ndarray, colours: numpy.ndarray, kind: str) -> None:
        area[:] = colours.reshape(area.shape)
        self.kinds.add(kind)

    def _hextile(self, reader: _Reader, area: numpy.ndarray) -> None:
        self.kinds.add("hextile")
        back = front = numpy.zeros(3, numpy.uint8)
        for top in range(0, area.shape[0], 16):
            for left in range(0, area.shape[1], 16):
                tile = area[top : top + 16, left : left + 16]
                mask = reader.number(1)
                if mask & 1:
                    tile[:] = _rgb(reader.take(4 * tile.shape[0] * tile.shape[1]), 4).reshape(tile.shape)
                    continue
                back = _rgb(reader.take(4), 4)[0] if mask & 2 else back
                front = _rgb(reader.take(4), 4)[0] if mask & 4 else front
                tile[:] = back
                for _ in range(reader.number(1) if mask & 8 else 0):
                    colour = _rgb(reader.take(4), 4)[0] if mask & 16 else front
                    place, size = reader.number(1), reader.number(1)
                    x, y = place >> 4, place & 15
                    tile[y : y + (size & 15) + 1, x : x + (size >> 4) + 1] = colour

    def _tight(self, reader: _Reader, area: numpy.ndarray, encoding: int) -> None:
        height, width = area.shape[:2]
        control = reader.number(1)
        kind = control >> 4
        if kind == 8:
            self._paint(area, numpy.broadcast_to(_rgb(reader.take(3), 3), (height * width, 3)), "fill")
        elif kind in (9, 10):
            image = Image.open(io.BytesIO(reader.take(_compact(reader)))).convert("RGB")
            self._paint(area, numpy.asarray(image), "JPEG" if kind == 9 else "PNG")
        else:
            assert encoding == 7 and kind < 8
            chosen = reader.number(1) if kind & 4 else 0
            palette = _rgb(reader.take(3 * (reader.number(1) + 1)), 3) if chosen == 1 else None
            row = 3 * width if palette is None else (width + 7) // 8 if len(palette) <= 2 else width
            size = row * height
            data = reader.take(size if size < 12 else _compact(reader))
            for stream in range(4):
                if control >> stream & 1:
                    self._zlib[stream] = zlib.decompressobj()
            plain = data if size < 12 else self._zlib[kind & 3].decompress(data)
            assert len(plain) == size and chosen < 2, (len(plain), size, chosen)
            values = numpy.frombuffer(plain, numpy.uint8)
            if palette is None:
                self._paint(area, values, "copy")
            elif len(palette) <= 2:
                bits = numpy.unpackbits(values.reshape(height, row), axis=1)[:, :width]
                self._paint(area, palette[bits], "two colours")
            else:
                self._paint(area, palette[values], "palette")

    def _zrle(self, plain: bytes, area: numpy.ndarray) -> None:
        self.kinds.add("ZRLE")
        reader = _Reader(plain)
        for top in range(0, area.shape[0], 64):
            for left in range(0, area.shape[1], 64):
                tile = area[top : top + 64, left : left + 64]
                _zrle_tile(reader, tile)


def _zrle_tile(reader: _Reader, tile: numpy.ndarray) -> None:
    height, width = tile.shape[:2]
    kind = reader.number(1)
    if kind == 0:
        tile[:] = _rgb(reader.take(3 * height * width), 3).reshape(tile.shape)
        return
    palette = _rgb(reader.take(3 * (kind & 127)), 3)
    if kind == 1:
        tile[:] = palette[0]
    elif kind <= 16:
        bits = 1 if kind == 2 else 2 if kind <= 4 else 4
        for y in range(height):
            row = int.from_bytes(reader.take((width * bits + 7) // 8), "big")
            left = (width * bits + 7) // 8 * 8
            tile[y] = palette[[row >> (left - bits * (x + 1)) & ((1 << bits) - 1) for x in range(width)]]
    else:
        flat: list[numpy.ndarray] = []
        while len(flat) < height * width:
            index = reader.number(1) if kind > 128 else 128
            colour = _rgb(reader.take(3), 3)[0] if kind == 128 else palette[index & 127]
            length = 1
            while index & 128:
                more = reader.number(1)
                length += more
                if more != 255:
                    break
            flat += [colour] * length
        tile[:] = numpy.array(flat).reshape(tile.shape)


def _compact(reader: _Reader) -> int:
    first = reader.number(1)
    second = reader.number(1) if first & 128 else 0
    third = reader.number(1) if second & 128 else 0
    return first & 127 | (second & 127) << 7 | third << 14


def _rgb(data: bytes, pixel_bytes: int) -> numpy.ndarray:
    return numpy.frombuffer(data, numpy.uint8).reshape(-1, pixel_bytes)[:, :3]

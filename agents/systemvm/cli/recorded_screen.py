# SPDX-License-Identifier: Apache-2.0
"""Draws what a recording shows. A recording has no zlib streams, so each rectangle is drawn by itself."""

from __future__ import annotations

import io
import struct

from PIL import Image, UnidentifiedImageError

from systemvm.recording.format import RecordingError
from systemvm.service.errors import SystemVmError

_RECTANGLE = struct.Struct(">HHHHi")
_RAW, _COPY_RECT, _RRE, _HEXTILE, _TIGHT_PNG = 0, 1, 2, 5, -260
_DESKTOP_SIZE, _LAST_RECT, _CURSOR, _LED_STATE, _NAME = -223, -224, -239, -261, -307
_EXTENDED_DESKTOP_SIZE, _VMWARE_CURSOR = -308, 0x574D5664
_EMPTY = frozenset({-257, -258})  # they have no body
_TILE_PX = 16
#: Pixels of 32 bits by their shifts of red, green and blue, as Pillow names them.
_MODES = {(False, 0, 8, 16): "RGBX", (False, 16, 8, 0): "BGRX", (True, 16, 8, 0): "XRGB"}

Colour = tuple[int, int, int]


class _IncompleteError(SystemVmError):
    """The rest of a message has not come."""


class _Reader:
    def __init__(self, data: bytes | bytearray) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        if len(self._data) - self.at < count:
            raise _IncompleteError("message is incomplete")
        self.at += count
        return bytes(self._data[self.at - count : self.at])

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")


class RecordedScreen:
    """A screen that the server's bytes of a recording are fed to.

    `updates` counts complete updates; between them the picture is what the browser showed.
    """

    def __init__(self, width_px: int, height_px: int, pixel_format: bytes) -> None:
        """
        Raises: RecordingError unless pixels have 32 bits and 8 of each colour, as noVNC asks for.
        """
        bits, _, big_endian, true_colour = pixel_format[:4]
        mode = _MODES.get((bool(big_endian), *pixel_format[10:13]))
        if bits != 32 or not true_colour or pixel_format[4:10] != b"\0\xff\0\xff\0\xff" or mode is None:
            raise RecordingError("pixels of the recording have a format that cannot be drawn")
        self.image = Image.new("RGB", (width_px, height_px))
        self.updates = 0
        self._mode = mode
        self._rest = bytearray()
        self._rectangles = 0  # that are left of the update

    @property
    def is_between(self) -> bool:
        return not self._rest and not self._rectangles

    def skip(self) -> None:
        """Forget the rest of a message: what follows it is missing, and the next data begins another one."""
        self._rest.clear()
        self._rectangles = 0

    def feed(self, data: bytes) -> None:
        """Draw what `data` completes.

        Raises: RecordingError when it is no VNC server's.
        """
        self._rest += data
        reader = _Reader(self._rest)
        done = 0
        try:
            while done < len(self._rest):
                (self._rectangle if self._rectangles else self._message)(reader)
                done = reader.at
        except _IncompleteError:
            pass
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise RecordingError(f"picture in the recording is damaged: {error}") from None
        del self._rest[:done]

    def _message(self, reader: _Reader) -> None:
        match reader.number(1):
            case 0:
                reader.take(1)
                self._rectangles = reader.number(2)
                self.updates += self._rectangles == 0
            case 1:
                reader.take(3)
                reader.take(6 * reader.number(2))
            case 2 | 150:
                pass
            case 3:
                reader.take(3)
                reader.take(abs(int.from_bytes(reader.take(4), "big", signed=True)))
            case 248:
                reader.take(7)
                reader.take(reader.number(1))
            case 250:
                reader.take(3)
            case other:
                raise RecordingError(f"recording has an unknown message: {other}")

    def _rectangle(self, reader: _Reader) -> None:
        x, y, width, height, encoding = _RECTANGLE.unpack(reader.take(_RECTANGLE.size))
        match encoding:
            case _ if encoding == _RAW:
                self._paint(x, y, self._pixels(reader, width, height))
            case _ if encoding == _COPY_RECT:
                left, top = reader.number(2), reader.number(2)
                self._paint(x, y, self.image.crop((left, top, left + width, top + height)))
            case _ if encoding == _RRE:
                self._rre(reader, x, y, width, height)
            case _ if encoding == _HEXTILE:
                self._paint(x, y, self._hextile(reader, width, height))
            case _ if encoding == _TIGHT_PNG:
                self._tight_png(reader, x, y, width, height)
            case _:
                self._state(reader, y, width, height, encoding)
        self._rectangles = 0 if encoding == _LAST_RECT else self._rectangles - 1
        self.updates += self._rectangles == 0

    def _state(self, reader: _Reader, y: int, width: int, height: int, encoding: int) -> None:
        """Read a rectangle that draws nothing."""
        if encoding == _CURSOR:
            reader.take(4 * width * height + (width + 7) // 8 * height)
        elif encoding == _VMWARE_CURSOR:
            reader.take((2 if reader.number(2) >> 8 == 0 else 1) * 4 * width * height)
        elif encoding == _NAME:
            reader.take(reader.number(4))
        elif encoding == _LED_STATE:
            reader.take(1)
        elif encoding == _EXTENDED_DESKTOP_SIZE:
            reader.take(3 + 16 * reader.number(1))
            if y == 0:  # else the server has refused a size
                self._resize(width, height)
        elif encoding == _DESKTOP_SIZE:
            self._resize(width, height)
        elif encoding != _LAST_RECT and encoding not in _EMPTY:
            raise RecordingError(f"recording has an unknown encoding: {encoding}")

    def _resize(self, width: int, height: int) -> None:
        if self.image.size != (width, height):
            self.image = Image.new("RGB", (width, height))

    def _paint(self, x: int, y: int, part: Image.Image) -> None:
        self.image.paste(part, (x, y))

    def _fill(self, colour: Colour, x: int, y: int, width: int, height: int) -> None:
        self.image.paste(colour, (x, y, x + width, y + height))

    def _pixels(self, reader: _Reader, width: int, height: int) -> Image.Image:
        data = reader.take(4 * width * height)
        return Image.frombytes("RGB", (width, height), data, "raw", self._mode)

    def _colour(self, reader: _Reader) -> Colour:
        pixel = reader.take(4)
        red, green, blue = (pixel[self._mode.index(name)] for name in "RGB")
        return red, green, blue

    def _rre(self, reader: _Reader, x: int, y: int, width: int, height: int) -> None:
        count = reader.number(4)
        rest = _Reader(reader.take(4 + 12 * count))
        self._fill(self._colour(rest), x, y, width, height)
        for _ in range(count):
            colour = self._colour(rest)
            left, top, part_width, part_height = (rest.number(2) for _ in range(4))
            self._fill(colour, x + left, y + top, part_width, part_height)

    def _hextile(self, reader: _Reader, width: int, height: int) -> Image.Image:
        part = Image.new("RGB", (width, height))
        back = front = (0, 0, 0)
        for top in range(0, height, _TILE_PX):
            for left in range(0, width, _TILE_PX):
                size = min(_TILE_PX, width - left), min(_TILE_PX, height - top)
                mask = reader.number(1)
                if mask & 1:
                    part.paste(self._pixels(reader, *size), (left, top))
                    continue
                back = self._colour(reader) if mask & 2 else back
                front = self._colour(reader) if mask & 4 else front
                part.paste(back, (left, top, left + size[0], top + size[1]))
                for _ in range(reader.number(1) if mask & 8 else 0):
                    colour = self._colour(reader) if mask & 16 else front
                    place, extent = reader.number(1), reader.number(1)
                    x, y = left + (place >> 4), top + (place & 15)
                    part.paste(colour, (x, y, x + (extent >> 4) + 1, y + (extent & 15) + 1))
        return part

    def _tight_png(self, reader: _Reader, x: int, y: int, width: int, height: int) -> None:
        kind = reader.number(1) >> 4
        if kind == 8:
            red, green, blue = reader.take(3)
            self._fill((red, green, blue), x, y, width, height)
        elif kind in (9, 10):
            data = io.BytesIO(reader.take(_compact_length(reader)))
            with Image.open(data, formats=("PNG", "JPEG")) as picture:
                self._paint(x, y, picture.convert("RGB"))
        else:
            raise RecordingError(f"recording has an unknown compression: {kind}")


def _compact_length(reader: _Reader) -> int:
    """Read Tight's length, of 7, 7 and 8 bits in up to three bytes."""
    length = 0
    for shift in (0, 7, 14):
        byte = reader.number(1)
        length |= (byte if shift == 14 else byte & 0x7F) << shift
        if not byte & 0x80:
            break
    return length

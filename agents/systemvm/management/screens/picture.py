# SPDX-License-Identifier: Apache-2.0
"""Pictures of screens: read as QEMU's screendump writes them (PPM, P6, 8 bits a colour), written as PNG."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib

from attrs import field, frozen

from systemvm.service.errors import FailureCode, SystemVmError

_HEAD = re.compile(rb"P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s")


class PictureError(SystemVmError):
    """A picture that is not one, or a region that is not on the screen."""

    code = FailureCode.INVALID


@frozen
class Region:
    """A part of a screen, in pixels from its upper left corner."""

    x: int
    y: int
    width: int
    height: int


@frozen
class Picture:
    """A screen of `width` times `height` pixels of three bytes."""

    width: int
    height: int
    pixels: bytes = field(repr=False)

    @classmethod
    def parse(cls, ppm: bytes) -> Picture:
        """Read a file.

        Raises: PictureError when it is not a whole PPM file.
        """
        head = _HEAD.match(ppm)
        if head is None:
            raise PictureError(
                "screen cannot be read: QEMU's picture is not PPM", code=FailureCode.UNAVAILABLE
            )
        width, height = int(head[1]), int(head[2])
        pixels = ppm[head.end() :]
        if len(pixels) != 3 * width * height:
            raise PictureError(
                f"screen cannot be read: {len(pixels)} bytes for {width}x{height} pixels",
                code=FailureCode.UNAVAILABLE,
            )
        return cls(width, height, pixels)

    def hash(self, region: Region | None = None) -> str:
        """Return the SHA-256 of a region's pixels, row by row, and of its size; by default of the screen's.

        Raises: PictureError when the region is not on the screen.
        """
        part = self if region is None else self.cut(region)
        digest = hashlib.sha256(f"{part.width}x{part.height}\n".encode())
        digest.update(part.pixels)
        return digest.hexdigest()

    def _outside(self, region: Region) -> str:
        """Return which member of a region makes it leave the screen; empty when none does."""
        if not 0 <= region.x < self.width:
            return "x"
        if not 0 <= region.y < self.height:
            return "y"
        if not 1 <= region.width <= self.width - region.x:
            return "width"
        return "" if 1 <= region.height <= self.height - region.y else "height"

    def cut(self, region: Region) -> Picture:
        """Return a region.

        Raises: PictureError when it is not on the screen.
        """
        outside = self._outside(region)
        if outside:
            raise PictureError(
                f"region {region.width}x{region.height}+{region.x}+{region.y} is not on the screen, "
                f"which has {self.width}x{self.height} pixels",
                "take a screenshot, and choose a region of it",
                parameter=outside,
            )
        starts = (3 * (row * self.width + region.x) for row in range(region.y, region.y + region.height))
        pixels = b"".join(self.pixels[start : start + 3 * region.width] for start in starts)
        return Picture(region.width, region.height, pixels)

    def doubled(self) -> Picture:
        """Return twice the size: each pixel four times."""
        wide = bytearray(2 * len(self.pixels))
        for colour in range(3):
            wide[colour::6] = wide[colour + 3 :: 6] = self.pixels[colour::3]
        row = 6 * self.width
        pixels = b"".join(bytes(wide[start : start + row]) * 2 for start in range(0, len(wide), row))
        return Picture(2 * self.width, 2 * self.height, pixels)

    def halved(self) -> Picture:
        """Return half the size: a pixel is the mean of four, rounded down; an odd last row or column is cut.

        Whole pictures are averaged as one integer, because Python has no faster way without a library.
        """
        width, height = self.width // 2, self.height // 2
        row, kept = 3 * self.width, 6 * width
        starts = range(0, 2 * height * row, 2 * row)
        upper = b"".join(self.pixels[start : start + kept] for start in starts)
        lower = b"".join(self.pixels[start + row : start + row + kept] for start in starts)
        rows = _mean(upper, lower)
        left, right = bytearray(len(rows) // 2), bytearray(len(rows) // 2)
        for colour in range(3):
            left[colour::3] = rows[colour::6]
            right[colour::3] = rows[colour + 3 :: 6]
        return Picture(width, height, _mean(bytes(left), bytes(right)))

    def ppm(self) -> bytes:
        """Return the file that `parse` reads."""
        return b"P6\n%d %d\n255\n" % (self.width, self.height) + self.pixels

    def png(self) -> bytes:
        """Return the screen as a PNG file (RFC 2083), 8 bits of red, green and blue without filters."""
        row = 3 * self.width
        lines = b"".join(
            b"\0" + self.pixels[start : start + row] for start in range(0, len(self.pixels), row)
        )
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, data) for kind, data in chunks)


def _mean(one: bytes, other: bytes) -> bytes:
    """Return the mean of each two bytes, rounded down: (a & b) + (a ^ b) / 2, without carries."""
    a, b = int.from_bytes(one, "big"), int.from_bytes(other, "big")
    halves = ((a ^ b) & int.from_bytes(b"\xfe" * len(one), "big")) >> 1
    return ((a & b) + halves).to_bytes(len(one), "big")


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

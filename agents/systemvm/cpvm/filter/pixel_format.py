# SPDX-License-Identifier: Apache-2.0
"""The pixel format of a session (RFC 6143 section 7.4), as far as lengths depend on it."""

from __future__ import annotations

from attrs import frozen

from systemvm.cpvm.filter.faults import FilterError, FilterFault

PIXEL_FORMAT_BYTES = 16
_TRUE_COLOUR_MAXIMA = b"\0\xff\0\xff\0\xff"


@frozen
class PixelFormat:
    """How many bytes a pixel has; Tight has its own rule, which servers read in two ways."""

    pixel_bytes: int
    tight_pixel_bytes: int | None  # None when a server's choice cannot be known

    @classmethod
    def parse(cls, data: bytes) -> PixelFormat:
        """Parse the 16 bytes of ServerInit or SetPixelFormat.

        Raises: FilterError when a pixel has not 8, 16 or 32 bits.
        """
        bits, depth, _, true_colour = data[:4]
        if bits not in (8, 16, 32):
            raise FilterError(FilterFault.PIXEL_FORMAT, f"pixel must have 8, 16 or 32 bits, not {bits}")
        pixel_bytes = bits // 8
        # Tight packs a pixel of 32 bits into 3 bytes when its depth is 24 and each maximum is 255. QEMU does
        # not look at depth and flag.
        packed = bits == 32 and data[4:10] == _TRUE_COLOUR_MAXIMA
        if not packed:
            return cls(pixel_bytes, pixel_bytes)
        return cls(pixel_bytes, 3 if depth == 24 and true_colour else None)

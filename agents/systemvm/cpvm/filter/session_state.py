# SPDX-License-Identifier: Apache-2.0
"""What both directions of a filtered session share."""

from __future__ import annotations

from attrs import define

from systemvm.cpvm.filter.pixel_format import PixelFormat


@define
class SessionState:
    """Size and format of the screen, and what the browser has sent.

    A server applies a new pixel format at a moment that its messages do not show. Until it knows encodings,
    or is asked for an update, it sends no pixels, so that only then the format can change.
    """

    width_px: int
    height_px: int
    pixel_format: PixelFormat
    is_format_fixed: bool = False
    is_requested: bool = False
    encoded_format: bytes = b""  # the pixel format as it travels

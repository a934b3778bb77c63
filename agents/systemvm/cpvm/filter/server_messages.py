# SPDX-License-Identifier: Apache-2.0
"""Follows what the VNC server sends (RFC 6143 section 7.6, and extensions), and drops forbidden text."""

from __future__ import annotations

import enum
from collections.abc import Callable

from attrs import frozen

from systemvm.cpvm.filter.clipboard import EXTENDED_FLAGS_BYTES, MAX_CUT_TEXT_BYTES, extended_verdict
from systemvm.cpvm.filter.encodings import STATEFUL, Encoding
from systemvm.cpvm.filter.faults import FilterError, FilterFault
from systemvm.cpvm.filter.rectangles import DRAWING, HEADER, STATING, Rectangle
from systemvm.cpvm.filter.scanner import Scanner, Script
from systemvm.cpvm.filter.session_state import SessionState

MAX_FENCE_BYTES = 64
_RAW, _HEADER_BYTES = int(Encoding.RAW), HEADER.size  # members of an enum and attributes cost in a hot loop
_CONTINUES = STATEFUL | {Encoding.COPY_RECT}


class ServerMessage(enum.IntEnum):
    FRAMEBUFFER_UPDATE = 0
    SET_COLOUR_MAP_ENTRIES = 1
    BELL = 2
    CUT_TEXT = 3
    END_OF_CONTINUOUS_UPDATES = 150
    FENCE = 248
    XVP = 250


@frozen
class FullUpdate:
    """An update that drew the whole screen and continues nothing: a recording can be played from it."""

    begin: int  # offset of its first byte in what was passed
    width_px: int
    height_px: int


class ServerScanner(Scanner):
    """Passes the server's messages; `on_full_update` is called at the end of each full update."""

    def __init__(
        self,
        state: SessionState,
        *,
        may_send_text: bool,
        may_receive_text: bool,
        on_full_update: Callable[[FullUpdate], None] | None = None,
    ) -> None:
        self._state = state
        self._may_send_text = may_send_text
        self._may_receive_text = may_receive_text
        self._on_full_update = on_full_update
        super().__init__()

    def _steps(self) -> Script:
        while True:
            message = yield from self._next_message()
            match message:
                case ServerMessage.FRAMEBUFFER_UPDATE:
                    yield from self._framebuffer_update()
                case ServerMessage.SET_COLOUR_MAP_ENTRIES:
                    yield -6 * int.from_bytes((yield 5)[3:], "big")
                case ServerMessage.BELL | ServerMessage.END_OF_CONTINUOUS_UPDATES:
                    pass
                case ServerMessage.CUT_TEXT:
                    yield from self._cut_text()
                case ServerMessage.FENCE:
                    yield from self._fence()
                case ServerMessage.XVP:
                    yield -3
                case _:
                    raise FilterError(
                        FilterFault.UNKNOWN_MESSAGE, f"VNC server sent an unknown message: {message}"
                    )

    def _framebuffer_update(self) -> Script:
        begin = self._position - 1 - self._removed
        state = self._state
        left = int.from_bytes((yield 3)[1:], "big")
        drawn_px, is_complete = 0, True
        while left:
            skipped, skipped_px = self._skip_raw(left)
            left, drawn_px = left - skipped, drawn_px + skipped_px
            if not left:
                break
            left -= 1
            rectangle = Rectangle.parse((yield 12))
            encoding = rectangle.encoding
            draws = DRAWING.get(encoding)
            if draws is not None:
                yield from draws(rectangle, state.pixel_format)
                drawn_px += rectangle.area_px
                is_complete = is_complete and encoding not in _CONTINUES
                continue
            states = STATING.get(encoding)
            if states is None:
                raise FilterError(
                    FilterFault.UNKNOWN_ENCODING, f"VNC server sent an unknown encoding: {encoding}"
                )
            yield from states(rectangle, state.pixel_format)
            if encoding == Encoding.LAST_RECT:
                break
            if _changes_size(rectangle):
                state.width_px, state.height_px = rectangle.width, rectangle.height
                drawn_px = 0
        # rectangles of one update do not overlap
        covers_screen = is_complete and drawn_px > 0 and drawn_px == state.width_px * state.height_px
        if covers_screen and self._on_full_update is not None:
            self._on_full_update(FullUpdate(begin, state.width_px, state.height_px))

    def _skip_raw(self, limit: int) -> tuple[int, int]:
        """Skip uncompressed rectangles that have arrived whole; return how many, and their pixels.

        They come faster than all others: a hypervisor does no work for them.
        """
        view, at, size = self._view, self._position - self._begin, len(self._view)
        count, drawn_px, pixel_bytes = 0, 0, self._state.pixel_format.pixel_bytes
        last, parse = size - _HEADER_BYTES, HEADER.unpack_from
        while count < limit and at <= last:
            _, _, width, height, encoding = parse(view, at)
            end = at + _HEADER_BYTES + width * height * pixel_bytes
            if encoding != _RAW or end > size:
                break
            at, count, drawn_px = end, count + 1, drawn_px + width * height
        self._position = self._begin + at
        return count, drawn_px

    def _cut_text(self) -> Script:
        self._hold()
        head = yield 7
        length = int.from_bytes(head[3:], "big", signed=True)
        head = bytes((ServerMessage.CUT_TEXT,)) + head
        passed: bytes | None
        if length >= 0:
            passed, rest_bytes = (head if self._may_send_text else None), length
        else:
            if -length < EXTENDED_FLAGS_BYTES:
                raise FilterError(FilterFault.MALFORMED, f"extended clipboard is too short: {-length} bytes")
            flags = extended_verdict(
                int.from_bytes((yield EXTENDED_FLAGS_BYTES), "big"),
                may_send=self._may_send_text,
                may_receive=self._may_receive_text,
            )
            passed = None if flags is None else head + flags.to_bytes(EXTENDED_FLAGS_BYTES, "big")
            rest_bytes = -length - EXTENDED_FLAGS_BYTES
        if passed is not None and abs(length) <= MAX_CUT_TEXT_BYTES:
            self._release(passed)
            yield -rest_bytes
        else:  # what a guest's user copies must not end the console: a text that is too long is dropped
            yield -rest_bytes
            self._release(b"")

    def _fence(self) -> Script:
        length = (yield 8)[7]
        if length > MAX_FENCE_BYTES:
            raise FilterError(
                FilterFault.TOO_LONG, f"fence is too long: {length} bytes, the maximum is {MAX_FENCE_BYTES}"
            )
        yield -length


def _changes_size(rectangle: Rectangle) -> bool:
    if rectangle.encoding == Encoding.DESKTOP_SIZE:
        return True
    # y is not 0 when the server refuses a size that a client asked for
    return rectangle.encoding == Encoding.EXTENDED_DESKTOP_SIZE and rectangle.y == 0

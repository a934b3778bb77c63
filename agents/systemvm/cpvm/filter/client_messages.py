# SPDX-License-Identifier: Apache-2.0
"""Follows what the browser sends (RFC 6143 section 7.5 and its extensions), and drops what a policy forbids.

The VNC server must read the same messages: it frames what passes by the same rules. So a message of unknown
length ends the session, and an extension that changes a length is never announced.
"""

from __future__ import annotations

import enum

from attrs import frozen

from systemvm.cpvm.filter.clipboard import EXTENDED_FLAGS_BYTES, MAX_CUT_TEXT_BYTES, extended_verdict
from systemvm.cpvm.filter.encodings import Announced, Encoding, permitted
from systemvm.cpvm.filter.faults import FilterError, FilterFault
from systemvm.cpvm.filter.pixel_format import PIXEL_FORMAT_BYTES, PixelFormat
from systemvm.cpvm.filter.scanner import Scanner, Script
from systemvm.cpvm.filter.session_state import SessionState

MAX_ENCODINGS = 1024
MAX_FENCE_BYTES = 64


class ClientMessage(enum.IntEnum):
    SET_PIXEL_FORMAT = 0
    SET_ENCODINGS = 2
    FRAMEBUFFER_UPDATE_REQUEST = 3
    KEY_EVENT = 4
    POINTER_EVENT = 5
    CUT_TEXT = 6
    ENABLE_CONTINUOUS_UPDATES = 150
    FENCE = 248
    XVP = 250
    SET_DESKTOP_SIZE = 251
    QEMU = 255


class QemuMessage(enum.IntEnum):
    EXTENDED_KEY_EVENT = 0
    AUDIO = 1


_AUDIO_SET_FORMAT = 2

#: Lengths without the type byte.
_FIXED = {
    ClientMessage.FRAMEBUFFER_UPDATE_REQUEST: 9,
    ClientMessage.KEY_EVENT: 7,
    ClientMessage.POINTER_EVENT: 5,
    ClientMessage.ENABLE_CONTINUOUS_UPDATES: 9,
    ClientMessage.XVP: 3,
}
_REQUESTS = frozenset({ClientMessage.FRAMEBUFFER_UPDATE_REQUEST, ClientMessage.ENABLE_CONTINUOUS_UPDATES})


@frozen
class ClientRules:
    """What a browser may send."""

    may_control: bool  # keys, pointer, size of the screen, power
    may_send_text: bool
    may_receive_text: bool
    announced: Announced = Announced.UNREAD

    @property
    def withheld(self) -> frozenset[Encoding]:
        """Return encodings that the browser must not announce, because it may not use what they bring."""
        withheld = set()
        if not self.may_control:
            withheld.add(Encoding.XVP)
        if not self.may_send_text and not self.may_receive_text:
            withheld.add(Encoding.EXTENDED_CLIPBOARD)
        return frozenset(withheld)


class ClientScanner(Scanner):
    """Passes the messages that the rules permit."""

    def __init__(self, rules: ClientRules, state: SessionState) -> None:
        self._rules = rules
        self._state = state
        super().__init__()

    def _steps(self) -> Script:
        while True:
            number = yield from self._next_message()
            try:
                message = ClientMessage(number)
            except ValueError:
                raise FilterError(
                    FilterFault.UNKNOWN_MESSAGE, f"browser sent an unknown message: {number}"
                ) from None
            match message:
                case ClientMessage.SET_PIXEL_FORMAT:
                    yield from self._set_pixel_format()
                case ClientMessage.SET_ENCODINGS:
                    yield from self._set_encodings()
                case ClientMessage.CUT_TEXT:
                    yield from self._cut_text()
                case ClientMessage.FENCE:
                    yield from self._fence()
                case ClientMessage.SET_DESKTOP_SIZE:
                    yield from self._set_desktop_size()
                case ClientMessage.QEMU:
                    yield from self._qemu()
                case _:
                    yield from self._fixed(message)

    def _fixed(self, message: ClientMessage) -> Script:
        if message in _REQUESTS:
            self._state.is_requested = self._state.is_format_fixed = True
        elif not self._rules.may_control:
            self._hold()
            yield -_FIXED[message]
            self._release(b"")
            return
        yield -_FIXED[message]

    def _set_pixel_format(self) -> Script:
        self._hold()
        body = yield 3 + PIXEL_FORMAT_BYTES
        if self._rules.announced is not Announced.UNREAD:
            pixel_format = PixelFormat.parse(body[3:])
            if self._state.is_format_fixed and pixel_format != self._state.pixel_format:
                raise FilterError(FilterFault.PIXEL_FORMAT, "pixel format cannot change after SetEncodings")
            self._state.pixel_format = pixel_format
            self._state.encoded_format = bytes(body[3:])
        self._release(bytes((ClientMessage.SET_PIXEL_FORMAT,)) + body)

    def _set_encodings(self) -> Script:
        self._hold()
        self._state.is_format_fixed = True
        count = int.from_bytes((yield 3)[1:], "big")
        if count > MAX_ENCODINGS:
            raise FilterError(
                FilterFault.TOO_LONG, f"too many encodings: {count}, the maximum is {MAX_ENCODINGS}"
            )
        body = yield 4 * count
        numbers = (int.from_bytes(body[at : at + 4], "big", signed=True) for at in range(0, len(body), 4))
        passed = permitted(numbers, self._rules.announced, self._rules.withheld)
        head = bytes((ClientMessage.SET_ENCODINGS, 0)) + len(passed).to_bytes(2, "big")
        self._release(head + b"".join(number.to_bytes(4, "big", signed=True) for number in passed))

    def _cut_text(self) -> Script:
        self._hold()
        head = yield 7
        length = int.from_bytes(head[3:], "big", signed=True)
        if abs(length) > MAX_CUT_TEXT_BYTES:
            raise FilterError(
                FilterFault.TOO_LONG,
                f"clipboard is too long: {abs(length)} bytes, the maximum is {MAX_CUT_TEXT_BYTES}",
            )
        head = bytes((ClientMessage.CUT_TEXT,)) + head
        if length >= 0:
            yield from self._decided(head if self._rules.may_send_text else None, length)
            return
        if -length < EXTENDED_FLAGS_BYTES:
            raise FilterError(FilterFault.MALFORMED, f"extended clipboard is too short: {-length} bytes")
        flags = extended_verdict(
            int.from_bytes((yield EXTENDED_FLAGS_BYTES), "big"),
            may_send=self._rules.may_send_text,
            may_receive=self._rules.may_receive_text,
        )
        passed = None if flags is None else head + flags.to_bytes(EXTENDED_FLAGS_BYTES, "big")
        yield from self._decided(passed, -length - EXTENDED_FLAGS_BYTES)

    def _decided(self, head: bytes | None, rest_bytes: int) -> Script:
        """Pass a message with this head, or drop it; `rest_bytes` of it follow."""
        if head is not None:
            self._release(head)
            yield -rest_bytes
        else:
            yield -rest_bytes
            self._release(b"")

    def _fence(self) -> Script:
        length = (yield 8)[7]
        if length > MAX_FENCE_BYTES:
            raise FilterError(
                FilterFault.TOO_LONG, f"fence is too long: {length} bytes, the maximum is {MAX_FENCE_BYTES}"
            )
        yield -length

    def _set_desktop_size(self) -> Script:
        if not self._rules.may_control:
            self._hold()
        screens = (yield 7)[5]
        yield -16 * screens
        if not self._rules.may_control:
            self._release(b"")

    def _qemu(self) -> Script:
        self._hold()
        head = yield 1
        if head[0] == QemuMessage.EXTENDED_KEY_EVENT:
            passed = bytes((ClientMessage.QEMU,)) + head if self._rules.may_control else None
            yield from self._decided(passed, 10)
        elif head[0] == QemuMessage.AUDIO:
            operation = yield 2
            is_long = int.from_bytes(operation, "big") == _AUDIO_SET_FORMAT
            is_unread = self._rules.announced is Announced.UNREAD
            passed = bytes((ClientMessage.QEMU,)) + head + operation if is_unread else None
            yield from self._decided(passed, 6 if is_long else 0)
        else:
            raise FilterError(FilterFault.UNKNOWN_MESSAGE, f"browser sent an unknown QEMU message: {head[0]}")

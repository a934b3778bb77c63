# SPDX-License-Identifier: Apache-2.0
"""What a recording follows: a screen's messages, or a serial port's bytes."""

from __future__ import annotations

from typing import Protocol

from systemvm.cpvm.filter.pixel_format import PixelFormat
from systemvm.cpvm.filter.server_messages import FullUpdate, ServerMessage, ServerScanner
from systemvm.cpvm.filter.session_state import SessionState
from systemvm.cpvm.recording.messages import RecordingBegin
from systemvm.recording.format import RecordingHeader, RecordingKind
from systemvm.wire.console import ConsoleKind


class RecordedStream(Protocol):
    """Bytes of one connection, as the browser gets them."""

    @property
    def is_between(self) -> bool:
        """Return whether a recording can begin or go on with the next byte."""

    def feed(self, data: bytes) -> bytes:
        """Return what to record of them.

        Raises: FilterError when they cannot be followed.
        """

    def set_format(self, pixel_format: bytes, is_fixed: bool) -> None: ...

    def can_begin(self, data: bytes) -> bool:
        """Return whether a recording can begin with this data, at which the stream was between messages."""

    def header(self, started_unix_ms: int, title: str) -> RecordingHeader: ...

    def full_updates(self) -> list[FullUpdate]:
        """Return those that have ended since the last call."""


class ScreenMessages:
    """The messages of a VNC server."""

    def __init__(self, begin: RecordingBegin) -> None:
        self.state = SessionState(begin.width_px, begin.height_px, PixelFormat.parse(begin.pixel_format))
        self.state.encoded_format = begin.pixel_format
        self._full_updates: list[FullUpdate] = []
        self._scanner = ServerScanner(
            self.state,
            may_send_text=True,
            may_receive_text=True,
            on_full_update=self._full_updates.append,
        )

    @property
    def is_between(self) -> bool:
        return self._scanner.is_at_boundary

    def feed(self, data: bytes) -> bytes:
        pieces = self._scanner.feed(data)
        return data if len(pieces) == 1 and len(pieces[0]) == len(data) else b"".join(pieces)

    def set_format(self, pixel_format: bytes, is_fixed: bool) -> None:
        self.state.pixel_format = PixelFormat.parse(pixel_format)
        self.state.encoded_format, self.state.is_format_fixed = pixel_format, is_fixed

    def can_begin(self, data: bytes) -> bool:
        """Return whether the format of pixels is the last one: a server sends none before it is."""
        return self.state.is_format_fixed or data[0] == ServerMessage.FRAMEBUFFER_UPDATE

    def header(self, started_unix_ms: int, title: str) -> RecordingHeader:
        state = self.state
        return RecordingHeader(state.width_px, state.height_px, state.encoded_format, started_unix_ms, title)

    def full_updates(self) -> list[FullUpdate]:
        found = list(self._full_updates)
        self._full_updates.clear()
        return found


class SerialText:
    """What a serial port writes; its terminal is as wide as the player makes it."""

    is_between = True

    def feed(self, data: bytes) -> bytes:
        return data

    def set_format(self, pixel_format: bytes, is_fixed: bool) -> None:
        """Do nothing: text has no format."""

    def can_begin(self, data: bytes) -> bool:
        return True

    def header(self, started_unix_ms: int, title: str) -> RecordingHeader:
        return RecordingHeader(80, 24, bytes(16), started_unix_ms, title, kind=RecordingKind.SERIAL)

    def full_updates(self) -> list[FullUpdate]:
        return []


def stream_of(begin: RecordingBegin) -> RecordedStream:
    """Return what follows a connection.

    Raises: FilterError when its format of pixels cannot be followed.
    """
    return SerialText() if begin.kind is ConsoleKind.SERIAL else ScreenMessages(begin)

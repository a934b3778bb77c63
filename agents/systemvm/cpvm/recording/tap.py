# SPDX-License-Identifier: Apache-2.0
"""A recorded connection in the agent: copies what the browser gets, and adds nothing else to its relay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from systemvm.cpvm.filter.scanner import Piece
from systemvm.cpvm.filter.session_filter import SessionFilter
from systemvm.cpvm.recording.shared_log import EntryKind, ReadInto
from systemvm.cpvm.rfb import ServerInit
from systemvm.wire.console import ConsolePolicy
from systemvm.wire.recording import RecordingEnd


class TapWriter(Protocol):
    """Where a tap writes: the recordings of its agent."""

    @property
    def is_pressed(self) -> bool: ...

    def copying(self, number: int, read_into: ReadInto, must_wait: Callable[[], bool]) -> ReadInto: ...

    def write(self, kind: EntryKind, number: int, content: bytes | memoryview) -> None: ...

    def end(self, number: int) -> None: ...

    def wait_for_room(self, go_on: Callable[[], None]) -> None: ...


class RecordingTap:
    """The tap of a screen, with the filter of its policy, or of a serial port."""

    def __init__(
        self,
        writer: TapWriter,
        number: int,
        policy: ConsolePolicy,
        screen: ServerInit | None,
        on_end: Callable[[RecordingEnd], None],
        on_gap: Callable[[bool], None],
    ) -> None:
        self.number = number
        self.on_end = on_end
        self.on_gap = on_gap
        self.is_ended = False
        self.on_full_update: Callable[[bytes], None] = lambda request: None  # to the VNC server
        self.on_stop: Callable[[], None] = lambda: None
        self.writer = writer
        self._filter = None if screen is None else SessionFilter(policy, screen, is_recorded=True)
        self._told: tuple[bytes, bool] | None = None  # the format of pixels, and whether it is the last one

    @property
    def filter(self) -> SessionFilter:
        if self._filter is None:
            raise ValueError("a serial port has no filter")
        return self._filter

    def from_browser(self, data: Piece) -> bytes:
        """Return what to send to the VNC server.

        Raises: FilterError when the browser sends what cannot be followed.
        """
        filtered = self.filter
        passed = filtered.from_browser(data)
        if not self.is_ended and self._told != (now := (filtered.pixel_format, filtered.is_format_fixed)):
            self._told = now
            content = filtered.pixel_format + bytes((filtered.is_format_fixed,))
            self.writer.write(EntryKind.FORMAT, self.number, content)
        return passed

    def from_server(self, data: Piece) -> list[Piece]:
        """Return what to send to the browser.

        Raises: FilterError when the VNC server sends what the policy cannot follow.
        """
        pieces = self.filter.from_server(data)
        if not self.is_ended:
            for piece in pieces:
                self.writer.write(EntryKind.SERVER, self.number, piece)
        return pieces

    def copy(self, data: Piece) -> None:
        """Record what the browser gets, unread."""
        if not self.is_ended:
            self.writer.write(EntryKind.SERVER, self.number, data)

    def copying(self, read_into: ReadInto, must_wait: Callable[[], bool]) -> ReadInto:
        """Return a `read_into` that records what it reads until `on_stop` is called."""
        return self.writer.copying(self.number, read_into, must_wait)

    @property
    def is_behind(self) -> bool:
        """Return whether the recorder is behind, so that nothing is to be read now."""
        return not self.is_ended and self.writer.is_pressed

    def wait(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` when the recorder has caught up."""
        self.writer.wait_for_room(go_on)

    def ask_for_all(self, width_px: int, height_px: int) -> None:
        """Ask the VNC server for the whole screen, so that a player can begin there."""
        if not self.is_ended and self._filter is not None:
            self.on_full_update(self._filter.full_update_request(width_px, height_px))

    def end(self) -> None:
        """End the recording with the connection."""
        if not self.is_ended:
            self.stop()
            self.writer.end(self.number)

    def stop(self) -> None:
        """Record nothing from now on."""
        self.is_ended = True
        self.on_stop()

# SPDX-License-Identifier: Apache-2.0
"""The filter of one session: both directions after the handshake, by the session's policy."""

from __future__ import annotations

from systemvm.cpvm.filter.client_messages import ClientRules, ClientScanner
from systemvm.cpvm.filter.encodings import Announced
from systemvm.cpvm.filter.pixel_format import PixelFormat
from systemvm.cpvm.filter.scanner import Piece
from systemvm.cpvm.filter.server_messages import ServerScanner
from systemvm.cpvm.filter.session_state import SessionState
from systemvm.cpvm.rfb import ServerInit
from systemvm.wire.console import ConsolePolicy


class SessionFilter:
    """Passes what the policy permits; the server's bytes are followed only where the policy needs it.

    A recorded session announces only encodings that its recorder can follow.
    """

    def __init__(
        self,
        policy: ConsolePolicy,
        screen: ServerInit,
        *,
        is_recorded: bool = False,
    ) -> None:
        may_control = not policy.view_only
        to_guest = may_control and policy.clipboard_to_guest
        from_guest = policy.clipboard_from_guest
        self._state = SessionState(screen.width_px, screen.height_px, PixelFormat(4, None))
        self._state.encoded_format = screen.pixel_format
        self._server: ServerScanner | None = None
        announced = Announced.UNREAD
        if is_recorded or not from_guest:
            self._state.pixel_format = PixelFormat.parse(screen.pixel_format)
            announced = Announced.SEEKABLE if is_recorded else Announced.FOLLOWED
        if not from_guest:
            self._server = ServerScanner(self._state, may_send_text=from_guest, may_receive_text=to_guest)
        rules = ClientRules(may_control, to_guest, from_guest, announced)
        self._client = ClientScanner(rules, self._state)

    @property
    def reads_server(self) -> bool:
        """Return whether the server's bytes must go through `from_server`."""
        return self._server is not None

    @property
    def pixel_format(self) -> bytes:
        """Return the format of the server's pixels, as it travels."""
        return self._state.encoded_format

    @property
    def is_format_fixed(self) -> bool:
        """Return whether the browser can change the format of pixels no more."""
        return self._state.is_format_fixed

    def from_browser(self, data: Piece) -> bytes:
        """Return what to send to the VNC server.

        Raises: FilterError when the browser sends what cannot be followed.
        """
        return b"".join(self._client.feed(data))

    def from_server(self, data: Piece) -> list[Piece]:
        """Return what to send to the browser, in pieces.

        Raises: FilterError when the VNC server sends what cannot be followed.
        """
        return [data] if self._server is None else self._server.feed(data)

    def full_update_request(self, width_px: int, height_px: int) -> bytes:
        """Return a request for the whole screen; nothing within a browser's message, or before its own."""
        if not self._client.is_at_boundary or not self._state.is_requested:
            return b""
        return b"\x03\0" + bytes(4) + width_px.to_bytes(2, "big") + height_px.to_bytes(2, "big")

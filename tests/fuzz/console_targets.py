# SPDX-License-Identifier: Apache-2.0
"""What the two ends of a console send: browsers, VNC servers and hypervisors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from fuzz.target import Target, declared, of_bytes
from systemvm.cpvm.filter.client_messages import ClientRules, ClientScanner
from systemvm.cpvm.filter.encodings import Announced
from systemvm.cpvm.filter.faults import FilterError
from systemvm.cpvm.filter.pixel_format import PixelFormat
from systemvm.cpvm.filter.server_messages import ServerScanner
from systemvm.cpvm.filter.session_state import SessionState
from systemvm.cpvm.server_handshake import ServerHandshake
from systemvm.cpvm.target_http import HeadReader, check_upgraded
from systemvm.cpvm.target_websocket import WebSocketStream
from systemvm.cpvm.websocket import FrameParser, WebSocketError
from systemvm.service.rfb_handshake import RfbError


def vnc_server(data: bytes) -> None:
    declared(lambda: ServerHandshake("secret").receive(data), RfbError)
    declared(lambda: ServerHandshake(None).receive(data), RfbError)
    declared(lambda: _encrypted(data), RfbError)


def _encrypted(data: bytes) -> None:
    """Handshake with TLS, which begins after the subtype was accepted."""
    handshake = ServerHandshake("secret", tls=True)
    for at in range(len(data)):
        if handshake.needs_tls:
            handshake.tls_started()
        handshake.receive(data[at : at + 1])


def hypervisor_head(data: bytes) -> None:
    def read() -> None:
        head = HeadReader().receive(data)
        if head is not None:
            check_upgraded(head, "AAAAAAAAAAAAAAAAAAAAAA==")

    declared(read, RfbError)


class _ReceivedBytes:
    """A connection that has these bytes and then ends, for `WebSocketStream`."""

    reading_needs_write = False

    def __init__(self, data: bytes) -> None:
        self._data = data

    def fileno(self) -> int:
        return -1

    def read_into(self, buffer: memoryview) -> int:
        count = min(len(self._data), len(buffer))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    def has_pending(self) -> bool:
        return False

    def write(self, data: bytes) -> int:
        return len(data)

    def close(self) -> None:
        """Do nothing: there is no socket."""


def screen_frames(data: bytes) -> None:
    """Read a VNC server's frames into buffers of two sizes: the payload must be the same.

    Of a stream that breaks the protocol, the larger buffer loses what came with the fault.
    """

    def payload(size: int) -> bytes:
        stream, buffer, got = WebSocketStream(_ReceivedBytes(data)), memoryview(bytearray(size)), b""
        with contextlib.suppress(WebSocketError):
            while count := stream.read_into(buffer):
                got += bytes(buffer[:count])
        return got

    assert payload(3).startswith(payload(1 + len(data)))


def rfb_browser(data: bytes) -> None:
    """Filter a browser's bytes; what passes must pass again unchanged."""
    rules = ClientRules(False, False, True, Announced.FOLLOWED)
    passed = b"".join(_filtered(lambda state: ClientScanner(rules, state), data))
    assert b"".join(_filtered(lambda state: ClientScanner(rules, state), passed)) == passed


def rfb_server(data: bytes) -> None:
    """Filter a VNC server's bytes; what passes must pass again unchanged."""

    def scanner(state: SessionState) -> ServerScanner:
        return ServerScanner(state, may_send_text=False, may_receive_text=True)

    passed = b"".join(_filtered(scanner, data))
    assert b"".join(_filtered(scanner, passed)) == passed


def _filtered(scanner: Callable[[SessionState], ClientScanner | ServerScanner], data: bytes) -> list[bytes]:
    reading, passed = scanner(SessionState(640, 480, PixelFormat(4, 3))), []
    with contextlib.suppress(FilterError):
        for start in range(0, len(data), 7):
            passed += [bytes(piece) for piece in reading.feed(data[start : start + 7])]
    return passed


TARGETS = {
    "websocket": Target(
        of_bytes(lambda data: list(FrameParser().feed(data)), WebSocketError),
        [b"\x82\x81\0\0\0\0x", b"\x88\x80abcd"],
    ),
    "rfb_browser": Target(
        rfb_browser,
        [
            b"\x02\0\0\x02\0\0\0\7\0\0\0\0",
            b"\6\0\0\0\xff\xff\xff\xf8\1\0\0\1abcd",
            b"\xff\0" + bytes(10),
        ],
    ),
    "rfb_server": Target(
        rfb_server, [b"\0\0\0\1" + bytes(4) + b"\0\2\0\1" + bytes(12), b"\3\0\0\0\0\0\0\1x", b"\2"]
    ),
    "vnc": Target(
        vnc_server,
        [
            b"RFB 003.008\n\x01\x02" + bytes(16),
            b"RFB 003.003\n\0\0\0\1",
            b"RFB 003.008\n\x01\x13\0\x02\0\x01\0\0\x01\x05\x01" + bytes(20),
        ],
    ),
    "screen_frames": Target(
        screen_frames, [b"\x82\x03abc\x89\x01x\x02\x01y\x80\x00", b"\x82\x7e\x00\x80" + bytes(128)]
    ),
    "hypervisor": Target(
        hypervisor_head,
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"],
    ),
}  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""Protocol peers of hypervisors that do not run here: XenServer's XAPI, and ESXi with its console tickets.

They answer as those do, as far as a console proxy sees it: XAPI's CONNECT with a session's cookie and RFB 3.3
behind it, ESXi's WebSocket below /ticket/ that opens once, both by TLS. QEMU itself is a real peer of the
tests.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from integration.cpvm_lab.screen_tls import vencrypt_server
from integration.cpvm_lab.vnc_server import SERVER_INIT, exactly, shake_hands
from systemvm.cpvm.websocket import DataFrame, FrameParser, Opcode, accept_key, binary_frame, control_frame


class Screen(Protocol):
    """What a VNC server needs of its connection."""

    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...


#: Performs the server's part of the handshake; returns the connection behind it if it is another one.
Greeting = Callable[[socket.socket], Screen | None]


def _request(peer: socket.socket) -> tuple[str, dict[str, str]]:
    """Read a request's head, byte for byte: what follows belongs to another protocol."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += exactly(peer, 1)
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines if line)
    return first, {name.lower(): value for name, _, value in pairs}


class XapiPeer:
    """XAPI of XenServer or XCP-ng with one session and one VM; `seen` are its requests."""

    SESSION_ID = "OpaqueRef:5f9b3c1e-6b7d-4f0a-9a53-0d6f0a1b2c3d"
    PATH = "/console?uuid=4f1a6f0c-33f5-4c8e-9d5b-7a1d7c0f9b10"

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.seen: list[str] = []

    def greet(self, connection: socket.socket) -> Screen:
        peer = self._context.wrap_socket(connection, server_side=True)
        first, headers = _request(peer)
        self.seen.append(first)
        if headers.get("cookie") != f"session_id={self.SESSION_ID}":
            peer.sendall(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n")
            raise EOFError
        if first != f"CONNECT {self.PATH} HTTP/1.0":
            peer.sendall(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n")
            raise EOFError
        peer.sendall(
            b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nCache-Control: no-cache, no-store\r\n\r\n"
        )
        # vncterm's: RFB 3.3, which the server decides alone
        peer.sendall(b"RFB 003.003\n")
        assert exactly(peer, 12) == b"RFB 003.003\n"
        peer.sendall(b"\0\0\0\x01")
        exactly(peer, 1)
        peer.sendall(SERVER_INIT)
        return peer


class FramedScreen:
    """A VNC server's connection within a WebSocket; it pings now and then, as ESXi does."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._parser = FrameParser()
        self._buffer = b""
        self._frames = 0

    def sendall(self, data: bytes, /) -> None:
        for at in range(0, len(data), 50_000):
            self._frames += 1
            if self._frames % 16 == 1:
                self._peer.sendall(control_frame(Opcode.PING, b"%d" % self._frames))
            self._peer.sendall(binary_frame(data[at : at + 50_000]))

    def recv(self, size: int, /) -> bytes:
        while not self._buffer:
            data = self._peer.recv(65536)
            if not data:
                return b""
            for event in self._parser.feed(data):
                if isinstance(event, DataFrame):
                    self._buffer += event.payload
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


def accept_ticket(peer: Screen, headers: dict[str, str]) -> None:
    """Accept the WebSocket of a ticket that ESXi knows."""
    assert headers["upgrade"] == "websocket"
    assert headers["sec-websocket-protocol"] == "binary"
    assert headers["sec-websocket-version"] == "13"
    accept = accept_key(headers["sec-websocket-key"])
    peer.sendall(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: binary\r\n\r\n".encode()
    )


class EsxiPeer:
    """An ESXi host with one ticket, which opens one console; `seen` are its requests."""

    TICKET = "cst-VCT-52d1f0a3-9c--tp-01-2A-3B"
    PATH = f"/ticket/{TICKET}"

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.seen: list[str] = []
        self.reusable = False

    def greet(self, connection: socket.socket) -> Screen:
        peer = self._context.wrap_socket(connection, server_side=True)
        first, headers = _request(peer)
        used = first in self.seen and not self.reusable
        self.seen.append(first)
        if first != f"GET {self.PATH} HTTP/1.1" or used:
            peer.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            raise EOFError
        accept_ticket(peer, headers)
        screen = FramedScreen(peer)
        shake_hands(screen)
        return screen


def vencrypt_greeting(context: ssl.SSLContext) -> Greeting:
    """Return the greeting of a VNC server with VeNCrypt's X509None."""
    return lambda connection: vencrypt_server(connection, context)


def echo(greet: Greeting) -> Callable[[socket.socket], None]:
    """Return the service of a screen that sends back what it receives."""

    def serve(connection: socket.socket) -> None:
        screen = greet(connection) or connection
        while data := screen.recv(65536):
            screen.sendall(data)

    return serve

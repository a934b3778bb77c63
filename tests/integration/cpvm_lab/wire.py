# SPDX-License-Identifier: Apache-2.0
"""A browser made of sockets, which can send partial HTTP requests and invalid WebSocket frames."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
from typing import Any

import numpy

from integration.cpvm_lab.console_process import ConsoleProcess
from systemvm.service.slowness import MAX_SCALE

#: Longer than the console's deadline of 10 s for a screen, however far a slow machine scales it.
TIMEOUT_S = 12.0 * MAX_SCALE


def masked_by_numpy(payload: bytes, mask: bytes) -> bytes:
    """Mask by RFC 6455, 5.3, independently of the console's implementation."""
    keys = numpy.resize(numpy.frombuffer(mask, numpy.uint8), len(payload))
    return (numpy.frombuffer(payload, numpy.uint8) ^ keys).tobytes()


class Response:
    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers: dict[str, list[str]] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            self.headers.setdefault(name.lower(), []).append(value.strip())
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def cookie(self) -> str:
        """Return the cookie as a browser sends it back."""
        return self.headers["set-cookie"][-1].partition(";")[0]


class Connection:
    """One TLS connection to a console."""

    def __init__(
        self,
        console: ConsoleProcess,
        context: ssl.SSLContext | None = None,
        receive_buffer: int = 0,
        source: str = "127.0.0.1",
    ) -> None:
        self.console = console
        raw = socket.socket()
        raw.bind((source, 0))
        raw.settimeout(TIMEOUT_S)
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.connect(("127.0.0.1", console.port))
        self.tls = (context or console.client_context()).wrap_socket(raw, server_hostname="127.0.0.1")
        self.buffer = b""
        self.notices: list[str] = []  # that the page was told of
        self.early: list[tuple[int, bytes]] = []  # rests of frames that held more than the requested message

    def send(self, data: bytes) -> None:
        self.tls.sendall(data)

    def more(self) -> bool:
        data = self.tls.recv(1 << 16)
        self.buffer += data
        return bool(data)

    def take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            if not self.more():
                raise EOFError(f"wanted {count} bytes, got {len(self.buffer)}")
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def request(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        host: str | None = None,
        **headers: str | None,
    ) -> Response:
        fields: dict[str, str | None] = {"Host": host or f"127.0.0.1:{self.console.port}"}
        if body:
            fields["Content-Length"] = str(len(body))
        fields.update({name.replace("_", "-"): value for name, value in headers.items()})
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return self.answer(method)

    def answer(self, method: str = "GET") -> Response:
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                raise EOFError(self.buffer)
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        answer = Response(head, b"")
        if method != "HEAD" and "content-length" in answer.headers:
            answer.body = self.take(int(answer.headers["content-length"][0]))
        return answer

    def spend(self, token: str, **headers: str | None) -> Response:
        headers = {"Origin": self.console.origin, "Accept": "application/json", **headers}
        body = f"cmd=auth&token={token}".encode()
        return self.request("POST", "/console", body, host=None, **headers)

    def upgrade(self, query: str, **headers: str | None) -> Response:
        fields = {
            "Origin": self.console.origin,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": "binary",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return self.request("GET", f"/websockify?{query}", b"", host=None, **fields)

    def close(self) -> None:
        self.tls.close()

    # -- frames

    def send_frame(self, opcode: int, payload: bytes = b"", *, first: int | None = None) -> None:
        mask = os.urandom(4)
        masked = masked_by_numpy(payload, mask)
        header = bytes([first if first is not None else 0x80 | opcode])
        if len(payload) < 126:
            header += bytes([0x80 | len(payload)])
        elif len(payload) < 1 << 16:
            header += b"\xfe" + len(payload).to_bytes(2, "big")
        else:
            header += b"\xff" + len(payload).to_bytes(8, "big")
        self.send(header + mask + masked)

    def frame(self) -> tuple[int, bytes]:
        if self.early:
            return self.early.pop(0)
        first, second = self.take(2)
        assert first & 0xF0 == 0x80, "the console sends unfragmented frames without reserved bits"
        assert not second & 0x80, "a server does not mask"
        length = second
        if length == 126:
            length = int.from_bytes(self.take(2), "big")
        elif length == 127:
            length = int.from_bytes(self.take(8), "big")
        return first & 0x0F, self.take(length)

    def data(self, count: int) -> bytes:
        """Return `count` bytes of binary frames; the last frame must end there. Notices go to `notices`."""
        got = b""
        while len(got) < count:
            opcode, payload = self.frame()
            if opcode == 1 and payload.startswith(b'{"notice":'):
                self.notices.append(json.loads(payload)["notice"])
                continue
            assert opcode == 2, (opcode, payload)
            got += payload
        assert len(got) == count, "the test must read whole frames"
        return got

    def closing(self) -> tuple[int, str]:
        """Return the code and the reason of the close frame, and skip the frames before it."""
        while True:
            opcode, payload = self.frame()
            if opcode == 8:
                self.send_frame(8, payload[:2])
                return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    def greet(self) -> bytes:
        """Perform the RFB handshake as noVNC does, and return ServerInit."""
        assert self.frame() == (2, b"RFB 003.008\n")
        self.send_frame(2, b"RFB 003.008\n")
        opcode, message = self.frame()
        assert (opcode, message[:6]) == (2, b"\x01\x01" + bytes(4))  # None, and its result
        message = message[6:]
        self.send_frame(2, b"\x01")
        self.send_frame(2, b"\x01")
        if not message:  # the screen was not connected yet
            opcode, message = self.frame()
            assert opcode == 2
        end = 24 + int.from_bytes(message[20:24], "big")
        if message[end:]:
            self.early.append((2, message[end:]))
        return message[:end]


def open_console(console: ConsoleProcess, token: str, **options: Any) -> Connection:
    """Return a connection whose token was used by POST and whose WebSocket is open."""
    connection = Connection(console, **options)
    spent = connection.spend(token)
    assert spent.status == 200, spent.body
    upgraded = connection.upgrade(f"session={spent.json()['session']}", Cookie=spent.cookie)
    assert upgraded.status == 101, upgraded.body
    return connection

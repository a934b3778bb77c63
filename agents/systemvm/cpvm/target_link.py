# SPDX-License-Identifier: Apache-2.0
"""A connection to a VM's screen while its layers are set up, for coroutines that send and receive."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
from typing import Any

from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.socket_waiter import SocketWaiter
from systemvm.cpvm.target_stream import PlainStream, TargetStream, TlsStream
from systemvm.cpvm.target_tls import check_fingerprint, client_context, handshake_refusal
from systemvm.service.openssl_errors import clear_openssl_errors
from systemvm.wire.console import ConsoleTarget, TargetTls, TargetTransport

_READ_BYTES = 4096
_Address = str | tuple[str, int]


class TargetLink:
    """A socket of its own, not connected yet; `stream` is its outermost layer."""

    def __init__(self, reactor: Any, target: ConsoleTarget) -> None:
        """Raises: ConsoleRefusedError when the target has no IP address."""
        self._host = target.host
        family, self._address = _family_and_address(target)
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._waiter = SocketWaiter(reactor, self._socket.fileno())
        self.stream: TargetStream = PlainStream(self._socket)

    async def connect(self, *, server_speaks_first: bool = False) -> None:
        """Connect; a server that speaks first is not waited for here: its first bytes show that it is there.

        Raises: ConsoleRefusedError when it cannot be connected.
        """
        code = self._socket.connect_ex(self._address)
        if code == errno.EINPROGRESS:
            if server_speaks_first:
                return
            await self._waiter.writable()
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise ConsoleRefusedError(BrowserRefusal.SCREEN_UNREACHABLE, os.strerror(code))

    async def start_tls(self, tls: TargetTls) -> None:
        """Perform the TLS handshake; nothing beyond the last layer must have been received.

        Raises: ConsoleRefusedError when it fails, or the certificate is not the expected one.
        """
        context = client_context(tls)
        name = tls.server_name or self._host
        try:
            wrapped = context.wrap_socket(self._socket, server_hostname=name, do_handshake_on_connect=False)
            self._socket = wrapped
            await self._finish_handshake(wrapped)
        except (OSError, ValueError) as error:
            clear_openssl_errors()
            raise handshake_refusal(error) from None
        check_fingerprint(tls, wrapped.getpeercert(binary_form=True))
        self.stream = TlsStream(wrapped)

    async def _finish_handshake(self, wrapped: ssl.SSLSocket) -> None:
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                await self._waiter.readable()
            except ssl.SSLWantWriteError:
                await self._waiter.writable()
            else:
                return

    async def send(self, data: bytes) -> None:
        while data:
            try:
                data = data[self.stream.write(data) :]
            except BlockingIOError:
                await self._waiter.writable()

    async def receive(self) -> bytes:
        """Return at least one byte.

        Raises: ConsoleRefusedError at the end of the connection.
        """
        buffer = memoryview(bytearray(_READ_BYTES))
        while True:
            try:
                count = self.stream.read_into(buffer)
            except BlockingIOError:
                waits = self._waiter.writable if self.stream.reading_needs_write else self._waiter.readable
                await waits()
                continue
            if not count:
                detail = "connection closed during the handshake"
                raise ConsoleRefusedError(BrowserRefusal.SCREEN_UNREACHABLE, detail)
            return bytes(buffer[:count])

    def fail(self, error: Exception) -> None:
        """Let the current wait raise `error`."""
        self._waiter.fail(error)

    def close(self) -> None:
        self._socket.close()


def _family_and_address(target: ConsoleTarget) -> tuple[socket.AddressFamily, _Address]:
    if target.transport is TargetTransport.UNIX:
        return socket.AF_UNIX, target.path
    try:
        address = ipaddress.ip_address(target.host)
    except ValueError:
        detail = f"target is not an IP address: {target.host!r}"
        raise ConsoleRefusedError(BrowserRefusal.SCREEN_UNREACHABLE, detail) from None
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return family, (str(address), target.port)

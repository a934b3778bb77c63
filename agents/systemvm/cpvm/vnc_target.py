# SPDX-License-Identifier: Apache-2.0
"""Connects to a VM's VNC server: TCP, then the RFB handshake, under one deadline."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from systemvm.cpvm.refusal import BrowserRefusal, ConsoleRefusedError
from systemvm.cpvm.rfb import (
    PasswordRefusedError,
    PasswordUnusedError,
    RfbError,
    ServerHandshake,
    ServerInit,
)
from systemvm.service.scaled_timer import ScaledTimer
from systemvm.wire.console import ConsoleTarget

CONNECT_DEADLINE_S = 10.0
_READ_BYTES = 4096


@frozen
class VncConnection:
    """A VNC server after its handshake; `early` is what it sent after its ServerInit."""

    socket: socket.socket
    server_init: ServerInit
    early: bytes = field(repr=False)


@implementer(IReadWriteDescriptor)
class VncDialer:
    """One attempt to connect; afterwards the socket belongs to the caller and is in no reactor."""

    def __init__(self, reactor: Any, target: ConsoleTarget, deadline_s: float = CONNECT_DEADLINE_S) -> None:
        self._reactor = reactor
        self._target = target
        self._deadline_s = deadline_s
        self._handshake = ServerHandshake(target.password)
        self._deadline: ScaledTimer | None = None
        self._socket: socket.socket | None = None
        self._connected = False
        self._unsent = b""
        self._result: Deferred[VncConnection] = Deferred(lambda _: self._give_up())

    def dial(self) -> Deferred[VncConnection]:
        """Connect; cancelling the Deferred closes the socket.

        Raises: ConsoleRefusedError when the target has no IP address; the Deferred fails with it, too.
        """
        try:
            address = ipaddress.ip_address(self._target.host)
        except ValueError:
            detail = f"target is not an IP address: {self._target.host!r}"
            raise ConsoleRefusedError(BrowserRefusal.SCREEN_UNREACHABLE, detail) from None
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self._deadline = ScaledTimer(
            self._reactor,
            self._deadline_s,
            lambda: self._fail(
                BrowserRefusal.SCREEN_SILENT, f"no RFB handshake within {self._deadline_s:g} s"
            ),
        )
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        code = self._socket.connect_ex((str(address), self._target.port))
        if code in (0, errno.EINPROGRESS):
            self._reactor.addWriter(self)
        else:
            self._reactor.callLater(0, self._fail, BrowserRefusal.SCREEN_UNREACHABLE, os.strerror(code))
        return self._result

    def doWrite(self) -> None:
        if self._socket is None:
            return
        if not self._connected:
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._fail(BrowserRefusal.SCREEN_UNREACHABLE, os.strerror(code))
                return
            self._connected = True
            self._reactor.addReader(self)
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :] if self._unsent else b""
        except BlockingIOError:
            return
        except OSError as broken:
            self._fail(BrowserRefusal.SCREEN_UNREACHABLE, os.strerror(broken.errno or 0))
            return
        if not self._unsent:
            self._reactor.removeWriter(self)
            if self._handshake.done:
                self._succeed()

    def doRead(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as broken:
            self._fail(BrowserRefusal.SCREEN_UNREACHABLE, os.strerror(broken.errno or 0))
            return
        if not data:
            self._fail(BrowserRefusal.SCREEN_UNREACHABLE, "connection closed during the RFB handshake")
            return
        try:
            self._unsent += self._handshake.receive(data)
        except PasswordRefusedError as refused:
            self._fail(BrowserRefusal.PASSWORD_REFUSED, str(refused))
        except PasswordUnusedError as unused:
            self._fail(BrowserRefusal.PASSWORD_UNUSED, str(unused))
        except RfbError as broken_protocol:
            self._fail(BrowserRefusal.SCREEN_FAULTY, str(broken_protocol))
        else:
            if self._unsent:
                self._reactor.addWriter(self)
            elif self._handshake.done:
                self._succeed()

    def _succeed(self) -> None:
        connected = self._socket
        self._detach()
        if connected is not None:
            init, early = self._handshake.server_init, self._handshake.rest()
            self._result.callback(VncConnection(connected, init, early))

    def _fail(self, refusal: BrowserRefusal, detail: str) -> None:
        if self._result.called:
            return
        self._give_up()
        self._result.errback(ConsoleRefusedError(refusal, detail))

    def _give_up(self) -> None:
        closing = self._socket
        self._detach()
        if closing is not None:
            closing.close()

    def _detach(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            self._socket = None

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """Handle an error of the socket, or the reactor's stop."""
        self._fail(BrowserRefusal.SCREEN_UNREACHABLE, reason.getErrorMessage())

    def logPrefix(self) -> str:
        return "vnc target"

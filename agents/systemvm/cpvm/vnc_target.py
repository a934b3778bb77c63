# SPDX-License-Identifier: Apache-2.0
"""Reaches a VM's VNC server: TCP to an address, then the RFB handshake, under one deadline."""

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

from systemvm.cpvm.refusal import Refusal, RefusedError
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
class DialedScreen:
    """A screen that has shaken hands; `early` is what it said after its ServerInit."""

    socket: socket.socket
    server_init: ServerInit
    early: bytes = field(repr=False)


@implementer(IReadWriteDescriptor)
class ScreenDialer:
    """One attempt to reach a screen; afterwards the socket is the caller's, and in no reactor."""

    def __init__(self, reactor: Any, target: ConsoleTarget, deadline_s: float = CONNECT_DEADLINE_S) -> None:
        self._reactor = reactor
        self._target = target
        self._deadline_s = deadline_s
        self._handshake = ServerHandshake(target.password)
        self._deadline: ScaledTimer | None = None
        self._socket: socket.socket | None = None
        self._connected = False
        self._unsent = b""
        self._reached: Deferred[DialedScreen] = Deferred(lambda _: self._give_up())

    def dial(self) -> Deferred[DialedScreen]:
        """Fails with RefusedError; cancelling it closes the socket."""
        try:
            address = ipaddress.ip_address(self._target.host)
        except ValueError:
            raise RefusedError(Refusal.SCREEN_UNREACHABLE, "the daemon named no IP address") from None
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        self._deadline = ScaledTimer(
            self._reactor,
            self._deadline_s,
            lambda: self._fail(Refusal.SCREEN_SILENT, "no handshake in time"),
        )
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        code = self._socket.connect_ex((str(address), self._target.port))
        if code in (0, errno.EINPROGRESS):
            self._reactor.addWriter(self)
        else:
            self._reactor.callLater(0, self._fail, Refusal.SCREEN_UNREACHABLE, os.strerror(code))
        return self._reached

    def doWrite(self) -> None:
        if self._socket is None:
            return
        if not self._connected:
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._fail(Refusal.SCREEN_UNREACHABLE, os.strerror(code))
                return
            self._connected = True
            self._reactor.addReader(self)
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :] if self._unsent else b""
        except BlockingIOError:
            return
        except OSError as broken:
            self._fail(Refusal.SCREEN_UNREACHABLE, os.strerror(broken.errno or 0))
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
            self._fail(Refusal.SCREEN_UNREACHABLE, os.strerror(broken.errno or 0))
            return
        if not data:
            self._fail(Refusal.SCREEN_UNREACHABLE, "closed during the handshake")
            return
        try:
            self._unsent += self._handshake.receive(data)
        except PasswordRefusedError as refused:
            self._fail(Refusal.PASSWORD_REFUSED, str(refused))
        except PasswordUnusedError as unused:
            self._fail(Refusal.PASSWORD_UNUSED, str(unused))
        except RfbError as broken_protocol:
            self._fail(Refusal.SCREEN_FAULTY, str(broken_protocol))
        else:
            if self._unsent:
                self._reactor.addWriter(self)
            elif self._handshake.done:
                self._succeed()

    def _succeed(self) -> None:
        screen = self._socket
        self._leave()
        if screen is not None:
            self._reached.callback(DialedScreen(screen, self._handshake.server_init, self._handshake.rest()))

    def _fail(self, refusal: Refusal, detail: str) -> None:
        if self._reached.called:
            return
        self._give_up()
        self._reached.errback(RefusedError(refusal, detail))

    def _give_up(self) -> None:
        closing = self._socket
        self._leave()
        if closing is not None:
            closing.close()

    def _leave(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            self._socket = None

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw the socket break, or is stopping."""
        self._fail(Refusal.SCREEN_UNREACHABLE, reason.getErrorMessage())

    def logPrefix(self) -> str:
        return "screen"

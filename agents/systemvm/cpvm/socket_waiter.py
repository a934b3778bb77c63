# SPDX-License-Identifier: Apache-2.0
"""Waits for one socket in a coroutine, so that a handshake of several layers reads as a sequence."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IReadWriteDescriptor)
class SocketWaiter:
    """One wait at a time; cancelling it takes the socket out of the reactor."""

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._waiting: Deferred[None] | None = None

    def readable(self) -> Deferred[None]:
        return self._wait(self._reactor.addReader)

    def writable(self) -> Deferred[None]:
        return self._wait(self._reactor.addWriter)

    def fail(self, error: Exception) -> None:
        """Let the current wait raise `error`."""
        waiting = self._forget()
        if waiting is not None:
            waiting.errback(error)

    def _wait(self, watch: Any) -> Deferred[None]:
        if self._waiting is not None:
            raise RuntimeError("socket is already waited for")
        self._waiting = Deferred(self._cancelled)
        watch(self)
        return self._waiting

    def _cancelled(self, waiting: Deferred[None]) -> None:
        self._forget()

    def _forget(self) -> Deferred[None] | None:
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        waiting, self._waiting = self._waiting, None
        return waiting

    def _ready(self) -> None:
        waiting = self._forget()
        if waiting is not None:
            waiting.callback(None)

    doRead = doWrite = _ready

    def fileno(self) -> int:
        return self._descriptor

    def connectionLost(self, reason: Failure) -> None:
        """Handle an error of the socket: the next operation on it raises the reason."""
        self._ready()

    def logPrefix(self) -> str:
        return "vnc target"

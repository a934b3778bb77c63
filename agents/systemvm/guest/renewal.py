# SPDX-License-Identifier: Apache-2.0
"""When the agent asks for a newer certificate: once that is due, and after a failure ever more rarely."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from systemvm.rpc.core.call import Connection
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call
from systemvm.service.backoff import Backoff

LOOK_S = 3600.0
#: Between attempts: the first after a failure, and the longest.
AGAIN_FIRST_S, AGAIN_LAST_S = 60.0, 3600.0


class Renewable(Protocol):
    """The part of AgentIdentity that this drives."""

    def due(self) -> bool: ...
    async def renew(self, peer: Connection) -> None: ...


class Renewal:
    """Looks when connected, every hour, and again after a failure; `tell` when `trouble` has changed."""

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        identity: Renewable,
        find_peer: Callable[[], Connection | None],
        tell: Callable[[], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._clock = clock
        self._identity = identity
        self._find_peer = find_peer
        self._tell = tell
        self._backoff = backoff or Backoff(first_s=AGAIN_FIRST_S, last_s=AGAIN_LAST_S)
        self._again: Any = None
        self._loop = LoopingCall(self.look)
        self._loop.clock = clock
        #: Why there is no newer certificate, and when that is tried again; empty when all is well.
        self.trouble = ""

    def start(self) -> None:
        self._loop.start(LOOK_S, now=False)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()
        self._forget_attempt()

    def look(self) -> None:
        """Renew if that is due and there is a connection; nobody awaits it."""
        peer = self._find_peer()
        if peer is not None and self._identity.due():
            Deferred.fromCoroutine(self._renew(peer)).addErrback(
                lambda failure: self._log.failure("renewing the identity", failure=failure)
            )

    async def on_request(self, call: Call, params: None) -> None:
        """`identity.renew`: now, due or not; RpcError says why not."""
        if call.peer is None:
            raise RpcError.refused("no-connection", "a certificate is renewed over a connection")
        try:
            await self._identity.renew(call.peer)
        except ValueError as error:
            raise RpcError.refused("not-renewed", str(error)) from error
        self._succeeded()

    async def _renew(self, peer: Connection) -> None:
        try:
            await self._identity.renew(peer)
        except (RpcError, ValueError) as error:
            wait_s, why = self._backoff.next_s(), getattr(error, "message", str(error))
            self.trouble = f"no newer certificate: {why}; next attempt in {wait_s:.0f} s"
            self._log.warn("{trouble}", trouble=self.trouble)
            self._forget_attempt()
            self._again = self._clock.callLater(wait_s, self.look)
            self._tell()
        else:
            self._succeeded()

    def _succeeded(self) -> None:
        self._backoff.reset()
        self._forget_attempt()
        self.trouble = ""
        self._tell()

    def _forget_attempt(self) -> None:
        again, self._again = self._again, None
        if again is not None and again.active():
            again.cancel()

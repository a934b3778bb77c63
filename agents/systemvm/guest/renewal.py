# SPDX-License-Identifier: Apache-2.0
"""When the agent requests a new certificate: when it is due, and after a failure with backoff."""

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
from systemvm.wire.call_refusal import CallRefusal

CHECK_INTERVAL_S = 3600.0
#: The first and the longest delay between attempts after a failure.
RETRY_FIRST_S, RETRY_LAST_S = 60.0, 3600.0


class Renewable(Protocol):
    """The part of AgentIdentity that this drives."""

    def due(self) -> bool: ...
    async def renew(self, peer: Connection) -> None: ...


class Renewal:
    """Checks on connection, every hour and after a failure; calls `on_change` when `problem` has changed."""

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        identity: Renewable,
        find_peer: Callable[[], Connection | None],
        on_change: Callable[[], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._clock = clock
        self._identity = identity
        self._find_peer = find_peer
        self._on_change = on_change
        self._backoff = backoff or Backoff(first_s=RETRY_FIRST_S, last_s=RETRY_LAST_S)
        self._retry_call: Any = None
        self._loop = LoopingCall(self.check)
        self._loop.clock = clock
        #: Why there is no new certificate, and when the next attempt is; empty without a failure.
        self.problem = ""

    def start(self) -> None:
        self._loop.start(CHECK_INTERVAL_S, now=False)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()
        self._forget_attempt()

    def check(self) -> None:
        """Begin a renewal if one is due and the daemon is connected."""
        peer = self._find_peer()
        if peer is not None and self._identity.due():
            Deferred.fromCoroutine(self._renew(peer)).addErrback(
                lambda failure: self._log.failure("cannot renew the identity", failure=failure)
            )

    async def on_request(self, call: Call, params: None) -> None:
        """Handle `identity.renew`: renew now, even when it is not due.

        Raises: RpcError when it fails.
        """
        if call.peer is None:
            raise RpcError.refused(
                CallRefusal.NO_CONNECTION, "cannot renew a certificate without a connection to the daemon"
            )
        try:
            await self._identity.renew(call.peer)
        except ValueError as error:
            raise RpcError.refused(CallRefusal.NOT_RENEWED, str(error)) from error
        self._succeeded()

    async def _renew(self, peer: Connection) -> None:
        try:
            await self._identity.renew(peer)
        except (RpcError, ValueError) as error:
            wait_s, why = self._backoff.next_s(), getattr(error, "message", str(error))
            self.problem = f"cannot renew the certificate: {why}; next attempt in {wait_s:.0f} s"
            self._log.warn("{problem}", problem=self.problem)
            self._forget_attempt()
            self._retry_call = self._clock.callLater(wait_s, self.check)
            self._on_change()
        else:
            self._succeeded()

    def _succeeded(self) -> None:
        self._backoff.reset()
        self._forget_attempt()
        self.problem = ""
        self._on_change()

    def _forget_attempt(self) -> None:
        call, self._retry_call = self._retry_call, None
        if call is not None and call.active():
            call.cancel()

# SPDX-License-Identifier: Apache-2.0
"""The agent's connection to fetch: opened when it is needed, and reopened while jobs run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.unix_stream import connect_unix_stream
from systemvm.service.single_flight import SingleFlight
from systemvm.ssvm.fetch_messages import HELLO, FetchHello

FETCH = Caller("fetch", "fetch")
RECONNECT_INTERVAL_S = 1.0
#: systemd starts fetch at the first connection; its imports take long without KVM.
START_DEADLINE_S = 60.0


class FetchConnection:
    """One peer at a time; `on_connected` is called for each, with the instance of fetch."""

    def __init__(
        self,
        reactor: Any,
        path: Path,
        methods: MethodTable,
        is_needed: Callable[[], bool],
        on_connected: Callable[[Peer, str], Awaitable[None]],
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._methods = methods
        self._is_needed = is_needed
        self._on_connected = on_connected
        self._connecting = SingleFlight[Path]()
        self._peer: Peer | None = None
        self._reconnect_timer: IDelayedCall | None = None
        self._stopped = False
        self._log = Logger(namespace="systemvm.ssvm.agent.fetch_connection")
        self.instance = ""  # of the fetch that is connected, or was last
        self.found_job_ids: list[str] = []  # its jobs when it was connected

    async def peer(self) -> Peer:
        """Return the connected fetch.

        Raises: RpcError when it cannot be connected.
        """
        if self._peer is not None and not self._peer.closed:
            return self._peer
        peer: Peer = await self._connecting.run(self._path, self._connect)
        return peer

    def stop(self) -> None:
        self._stopped = True
        if self._reconnect_timer is not None and self._reconnect_timer.active():
            self._reconnect_timer.cancel()
        if self._peer is not None:
            self._peer.close("the agent stops")

    async def _connect(self) -> Peer:
        peer = await connect_unix_stream(self._reactor, self._path, self._methods, remote=FETCH)
        try:
            hello: FetchHello = await peer.call(HELLO, result=FetchHello, deadline_s=START_DEADLINE_S)
        except RpcError:
            peer.close("no answer to hello")
            raise
        self._peer = peer
        self.instance = hello.instance
        self.found_job_ids = hello.used_job_ids
        peer.when_closed().addCallback(self._lost)
        Deferred.fromCoroutine(self._call_on_connected(peer, hello.instance))
        return peer

    async def _call_on_connected(self, peer: Peer, instance: str) -> None:
        try:
            await self._on_connected(peer, instance)
        except RpcError as error:
            self._log.warn("fetch did not accept its jobs: {error}", error=str(error))

    def _lost(self, why: str) -> None:
        self._log.info("Connection to fetch lost: {why}", why=why)
        self._reconnect_later()

    def _reconnect_later(self) -> None:
        if (
            not self._stopped
            and self._is_needed()
            and (self._reconnect_timer is None or not self._reconnect_timer.active())
        ):
            self._reconnect_timer = self._reactor.callLater(RECONNECT_INTERVAL_S, self._reconnect)

    def _reconnect(self) -> None:
        Deferred.fromCoroutine(self.peer()).addErrback(self._not_connected)

    def _not_connected(self, failure: Any) -> None:
        self._log.info("Cannot reach fetch: {why}", why=str(failure.value))
        self._reconnect_later()

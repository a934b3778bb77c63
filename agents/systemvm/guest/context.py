# SPDX-License-Identifier: Apache-2.0
"""What a role module receives: facts about the VM, the method table, and calls to the daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from systemvm.guest.paths import GuestPaths
from systemvm.rpc.core.errors import BUSY, DEADLINE, NOT_CONNECTED, RpcError
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.service.metrics import Metric
from systemvm.wire.agent import Capability
from systemvm.wire.role import Role

_NO_ANSWER = frozenset({NOT_CONNECTED, DEADLINE, BUSY})
_RETRY_S = 1.0

ConnectedHook = Callable[[Peer], Awaitable[None]]
StopHook = Callable[[], Awaitable[None]]
MetricSource = Callable[[], Iterable[Metric]]


@define
class AgentContext:
    """The environment of one agent; `install(context)` of its role adds methods and hooks."""

    reactor: Any
    paths: GuestPaths
    name: str
    role: Role
    boot: dict[str, str]  # the boot arguments, without secrets
    methods: MethodTable
    sockets: dict[str, int]  # inherited listening sockets: descriptor by name
    find_peer: Callable[[], Peer | None]
    find_capabilities: Callable[[], list[Capability]] = list  # of its role, for each hello
    on_connected: list[ConnectedHook] = field(factory=list)  # after each answered hello: reconcile here
    on_stop: list[StopHook] = field(factory=list)
    metrics: list[MetricSource] = field(factory=list)  # of its role, beside the agent's own
    _waiting: list[Deferred[None]] = field(factory=list)
    _log: Logger = field(factory=lambda: Logger(namespace="systemvm.guest.context"))

    def peer(self) -> Peer | None:
        """Return the daemon's peer, None while it is not connected."""
        return self.find_peer()

    async def call_daemon(
        self,
        method: str,
        params: Any = None,
        *,
        result: Any = None,
        deadline_s: float = 30.0,
        request_id: str | None = None,
    ) -> Any:
        """Call the daemon and repeat the call until it answers, even when the connection is lost.

        The daemon can receive the call twice: every method is idempotent.

        Raises: RpcError when the daemon answers with an error.
        """
        while True:
            peer = await self._connected()
            try:
                return await peer.call(
                    method, params, result=result, deadline_s=deadline_s, request_id=request_id
                )
            except RpcError as error:
                if error.code not in _NO_ANSWER:
                    raise
                self._log.info("{method} is repeated: {error}", method=method, error=str(error))
            await deferLater(self.reactor, _RETRY_S)

    def notify_daemon(self, method: str, params: Any = None, *, replaces: str | None = None) -> None:
        """Notify the daemon if it is connected; a newer notification replaces an unsent one."""
        peer = self.peer()
        if peer is not None:
            peer.notify(method, params, replaces=replaces)

    def connected(self) -> None:
        """Resume the calls that wait for the connection; to be called when the agent is Up."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    async def _connected(self) -> Peer:
        while (peer := self.peer()) is None:
            waiter: Deferred[None] = Deferred(canceller=self._forget)
            self._waiting.append(waiter)
            await waiter
        return peer

    def _forget(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)

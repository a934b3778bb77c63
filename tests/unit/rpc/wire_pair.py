# SPDX-License-Identifier: Apache-2.0
"""Two peers joined by nothing but lists of bytes, with one clock that tests move."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from systemvm.rpc.core import frame
from systemvm.rpc.core.method import Caller, MethodTable
from systemvm.rpc.core.peer import Peer


class Wire:
    """What one peer sent; its Channel."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed: str | None = None

    def send(self, line: bytes, *, replaces: str | None = None, may_drop: bool = False) -> None:
        self.sent.append(line)

    def disconnect(self, why: str) -> None:
        self.closed = why

    def take(self) -> list[Any]:
        """Everything sent since the last time, decoded."""
        sent, self.sent = self.sent, []
        return [frame.decode(line[:-1]) for line in sent]


class Pair:
    """A daemon's view of an agent, and that agent's view of the daemon."""

    def __init__(self, daemon_methods: MethodTable, agent_methods: MethodTable) -> None:
        self.clock = Clock()
        self.daemon_wire, self.agent_wire = Wire(), Wire()
        self.agent = Peer(Caller("s-1-VM", "ssvm"), daemon_methods, self.clock, self.daemon_wire)
        self.daemon = Peer(Caller("host-1", "management"), agent_methods, self.clock, self.agent_wire)

    def carry(self) -> None:
        """Deliver until both are quiet."""
        while self.daemon_wire.sent or self.agent_wire.sent:
            for wire, receiver in ((self.daemon_wire, self.daemon), (self.agent_wire, self.agent)):
                sent, wire.sent = wire.sent, []
                receiver.data_received(b"".join(sent))


def begin(coroutine: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


def outcome(deferred: Deferred[Any]) -> Any:
    """What a Deferred came to, raised if it failed; AssertionError while it waits."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "still waiting"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]

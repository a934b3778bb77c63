# SPDX-License-Identifier: Apache-2.0
"""Two peers connected in memory, with a clock that tests advance."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from systemvm.rpc.core import frame
from systemvm.rpc.core.method import Caller, MethodTable
from systemvm.rpc.core.peer import Peer


class Wire:
    """A channel that records what its peer sends."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed: str | None = None

    def send(self, line: bytes, *, replaces: str | None = None, may_drop: bool = False) -> None:
        self.sent.append(line)

    def disconnect(self, why: str) -> None:
        self.closed = why

    def take(self) -> list[Any]:
        """Return the decoded messages sent since the last call."""
        sent, self.sent = self.sent, []
        return [frame.decode(line[:-1]) for line in sent]


class Pair:
    """The daemon's peer of an agent, and the agent's peer of the daemon."""

    def __init__(self, daemon_methods: MethodTable, agent_methods: MethodTable) -> None:
        self.clock = Clock()
        self.daemon_wire, self.agent_wire = Wire(), Wire()
        self.agent = Peer(Caller("s-1-VM", "ssvm"), daemon_methods, self.clock, self.daemon_wire)
        self.daemon = Peer(Caller("host-1", "management"), agent_methods, self.clock, self.agent_wire)

    def deliver(self) -> None:
        """Deliver messages until neither end sends."""
        while self.daemon_wire.sent or self.agent_wire.sent:
            for wire, receiver in ((self.daemon_wire, self.daemon), (self.agent_wire, self.agent)):
                sent, wire.sent = wire.sent, []
                receiver.data_received(b"".join(sent))


def begin(coroutine: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


def outcome(deferred: Deferred[Any]) -> Any:
    """Return the result of a Deferred, or raise its failure.

    Raises: AssertionError when it has not fired.
    """
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "still waiting"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]

# SPDX-License-Identifier: Apache-2.0
"""A minimal daemon for measurements: it answers hello and signs certificates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort

from systemvm.management.pki.control import ControlAuthority
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.listener import listen
from systemvm.wire import agent, protocol
from systemvm.wire.role import CONTROL_PORT, Role

AGENTS = frozenset({Role.SSVM.value, Role.CPVM.value})


class TinyDaemon:
    """Calls `on_up(name)` after its response to an agent's hello."""

    def __init__(self, reactor: Any, authority: ControlAuthority, on_up: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._authority = authority
        self._on_up = on_up
        self.methods = MethodTable("tiny daemon", "1")
        self.methods.add(agent.HELLO, self._hello, params=agent.Hello, result=agent.Welcome, roles=AGENTS)
        self.methods.add(agent.PING, self._ping, params=agent.Ping, result=agent.Pong, roles=AGENTS)
        self.methods.add(
            agent.SIGN, self._sign, params=agent.SigningRequest, result=agent.SignedCertificate, roles=AGENTS
        )

    def start(
        self,
        interface: str = "127.0.0.1",
        port: int = CONTROL_PORT,
        on_connected: Callable[[Peer], None] = lambda peer: None,
    ) -> Deferred[IListeningPort]:
        identity = self._authority.daemon_identity("bench")
        return listen(
            self._reactor, lambda: identity, self.methods, interface=interface, port=port,
            known=lambda caller: None, on_connected=on_connected, on_lost=lambda peer, why: None,
        )  # fmt: skip

    async def _hello(self, call: Call, hello: agent.Hello) -> agent.Welcome:
        # called after the response is written
        self._reactor.callLater(0, self._on_up, call.caller.name)
        return agent.Welcome(protocol.CURRENT, "bench", hello.clock_unix_s, 60.0)

    async def _ping(self, call: Call, ping: agent.Ping) -> agent.Pong:
        return agent.Pong(ping.sent_unix_s, ping.sent_unix_s)

    async def _sign(self, call: Call, request: agent.SigningRequest) -> agent.SignedCertificate:
        pem = self._authority.sign(request.csr_pem, call.caller.name, Role(call.caller.role))
        return agent.SignedCertificate(pem, self._authority.ca_pem.decode())

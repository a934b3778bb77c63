# SPDX-License-Identifier: Apache-2.0
"""The daemon's end of the channel: a real listener with a real CA that records what agents send."""

from __future__ import annotations

import time
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue

from systemvm.management.pki.control import ControlAuthority
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.listener import listen
from systemvm.service.slowness import scaled_s
from systemvm.wire import agent as wire
from systemvm.wire import protocol
from systemvm.wire.role import Role

WAIT_S = 60.0


async def soon(waiting: Deferred[Any], what: str) -> Any:
    """Return the result of `waiting`.

    Raises: AssertionError when `what` does not arrive within WAIT_S of an ordinary machine.
    """
    wait_s = scaled_s(WAIT_S)

    def late(result: object, timeout_s: float) -> object:
        raise AssertionError(f"no {what} in {timeout_s:g} s")

    return await waiting.addTimeout(wait_s, reactor, onTimeoutCancel=late)


class FakeDaemon:
    """A daemon that signs certificates and queues what agents send."""

    def __init__(self, authority: ControlAuthority) -> None:
        self.authority = authority
        self.hellos: DeferredQueue[tuple[Peer, wire.Hello]] = DeferredQueue()
        self.lost: DeferredQueue[str] = DeferredQueue()
        self.signed: DeferredQueue[str] = DeferredQueue()
        self.pings: DeferredQueue[float] = DeferredQueue()
        self.reconciled: DeferredQueue[dict[str, Any]] = DeferredQueue()
        self.peers: list[Peer] = []
        self.port_number = 0
        self.signing_refusal = ""  # if set, the reason why no certificate is signed
        self.protocol_version = protocol.CURRENT  # the newest version that it supports
        self._listening: Any = None
        self._identity = authority.daemon_identity("test")
        self.methods = MethodTable("daemon", "0")
        agents = frozenset({"ssvm"})
        self.methods.add(wire.HELLO, self._hello, params=wire.Hello, result=wire.Welcome, roles=agents)
        self.methods.add(wire.PING, self._ping, params=wire.Ping, result=wire.Pong, roles=agents)
        self.methods.add(
            wire.SIGN, self._sign, params=wire.SigningRequest, result=wire.SignedCertificate, roles=agents
        )
        self.methods.add("test.reconcile", self._reconcile, params=dict[str, Any], result=None, roles=agents)

    async def start(self) -> None:
        self._listening = await listen(
            reactor,
            lambda: self._identity,
            self.methods,
            interface="127.0.0.1",
            port=self.port_number,
            known=lambda caller: None,
            on_connected=self.peers.append,
            on_lost=lambda peer, reason: self.lost.put(reason),
        )
        self.port_number = self._listening.getHost().port

    async def stop(self) -> None:
        """Close the port and every connection, as when a daemon is killed."""
        await self._listening.stopListening()
        for peer in self.peers:
            peer.close("the daemon ends")
        self.peers.clear()

    async def _hello(self, call: Call, hello: wire.Hello) -> wire.Welcome:
        assert call.peer is not None
        self.hellos.put((cast(Peer, call.peer), hello))
        return wire.Welcome(min(self.protocol_version, hello.protocol_version), "host-1", time.time(), 1.0)

    async def _ping(self, call: Call, ping: wire.Ping) -> wire.Pong:
        self.pings.put(ping.sent_unix_s)
        return wire.Pong(ping.sent_unix_s, time.time())

    async def _sign(self, call: Call, request: wire.SigningRequest) -> wire.SignedCertificate:
        if self.signing_refusal:
            raise RpcError.refused("signing-refused", self.signing_refusal)
        certificate_pem = self.authority.sign(request.csr_pem, call.caller.name, Role(call.caller.role))
        self.signed.put(certificate_pem)
        return wire.SignedCertificate(certificate_pem, self.authority.ca_pem.decode())

    async def _reconcile(self, call: Call, params: dict[str, Any]) -> None:
        self.reconciled.put(params)

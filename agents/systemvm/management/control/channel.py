# SPDX-License-Identifier: Apache-2.0
"""The control channel: its listener, and the methods that every agent calls: hello, ping and sign."""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import Logger

from systemvm.management.control.agent import Agent, AgentStatus, NotReadyError
from systemvm.management.control.clock import ClockMonitor
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.pki.control import ControlAuthority, SigningRefusedError
from systemvm.management.state.status import AgentState
from systemvm.rpc.core.call import Call, Connection, Method, ObjectAccess
from systemvm.rpc.core.errors import FORBIDDEN, NOT_CONNECTED, RpcError
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.listener import BOUNDS, listen
from systemvm.rpc.stream.transport import Reactor
from systemvm.rpc.tls.identity import Identity
from systemvm.rpc.tls.peer_certificate import describe_certificate_pem
from systemvm.rpc.tls.refusal import Refusal
from systemvm.service.backoff import Backoff
from systemvm.service.connection_limits import ConnectionLimits, source_of_address
from systemvm.service.scaled_timer import ScaledTimer
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.agent import (
    HELLO,
    PING,
    SIGN,
    VERSION_INDEPENDENT_METHODS,
    Hello,
    Ping,
    Pong,
    SignedCertificate,
    SigningRequest,
    Welcome,
)
from systemvm.wire.call_refusal import CallRefusal
from systemvm.wire.protocol import CURRENT, OLDEST, Compatibility, negotiate
from systemvm.wire.recording import CONSOLE_RECORDER
from systemvm.wire.role import Role
from systemvm.wire.vm_name import VmName

#: Roles in method tables: who may call.
SSVM_ONLY = frozenset({Role.SSVM.value})
CPVM_ONLY = frozenset({Role.CPVM.value})
ANY_AGENT = SSVM_ONLY | CPVM_ONLY

#: A connection without a hello by then is closed.
HELLO_DEADLINE_S = 30.0


class ControlChannel:
    """Listens for agents, answers their hello, and prepares them for work."""

    _log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        directory: AgentDirectory,
        authority: ControlAuthority,
        methods: MethodTable,
        *,
        host_uuid: str,
        ping_interval_s: float,
        clock: Callable[[], float] = time.time,
        clocks: ClockMonitor | None = None,
        on_refused: Callable[[str, Refusal], None] = lambda address, refusal: None,
        source_of: Callable[[str], str] = source_of_address,
    ) -> None:
        self._reactor = reactor
        self._directory = directory
        self._authority = authority
        self._methods = methods
        self._host_uuid = host_uuid
        self._ping_interval_s = ping_interval_s
        self._clock = clock
        self._clocks = clocks
        self._on_refused = on_refused
        self._peers: set[Peer] = set()
        self._recorders: set[Connection] = set()  # connections of agents' recorders
        self._ports: list[IListeningPort] = []
        self._limits = ConnectionLimits(BOUNDS)  # shared by all listeners
        self._source_of = source_of
        methods.guard = self._guard
        methods.add(
            HELLO,
            self._hello,
            params=Hello,
            result=Welcome,
            roles=ANY_AGENT,
            summary="Introduce an agent",
            objects=ObjectAccess(
                "the name and role of its certificate", _speaks_for_itself, CallRefusal.NOT_YOU
            ),
        )
        methods.add(
            PING, self._ping, params=Ping, result=Pong, roles=ANY_AGENT, summary="Report that the agent lives"
        )
        methods.add(
            SIGN,
            self._sign,
            params=SigningRequest,
            result=SignedCertificate,
            roles=ANY_AGENT,
            summary="Sign an agent's own key for its own name",
        )
        methods.add(
            CONSOLE_RECORDER,
            self._attach,
            params=None,
            result=Acknowledgement,
            roles=CPVM_ONLY,
            summary="Deliver recordings on this connection, beside the agent's own",
        )

    async def listen(self, identity: Callable[[], Identity], interface: str, port: int) -> int:
        """Open a listener and return its port; call it again for another address."""
        listening = await listen(
            self._reactor,
            identity,
            self._methods,
            interface=interface,
            port=port,
            known=self._directory.admit,
            on_connected=self._connected,
            on_lost=self._lost,
            on_refused=self._on_refused,
            limits=self._limits,
            source_of=self._source_of,
        )
        self._ports.append(listening)
        bound_port: int = listening.getHost().port  # type: ignore[attr-defined]
        self._log.info("listening for agents on {interface}:{port}", interface=interface, port=bound_port)
        return bound_port

    async def close(self) -> None:
        """Close listeners and connections; agents dial until a daemon answers again."""
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        ends = [peer.when_closed() for peer in self._peers]
        for agent in self._directory.agents():
            if agent.peer is not None:
                self._directory.disconnected(agent.name, "was disconnected: the management daemon stopped")
        for peer in list(self._peers):
            peer.close("the management daemon stops")
        await gatherResults(ends, consumeErrors=True)

    def recheck(self) -> None:
        """Close connections whose certificate has expired or was revoked since they were opened."""
        for peer in list(self._peers):
            try:
                self._directory.recheck(peer.caller)
            except RpcError as error:
                peer.close(error.message)

    def _connected(self, peer: Peer) -> None:
        self._peers.add(peer)
        peer.timeout_scale = lambda: self._directory.timeout_scale(peer.caller.name)
        greeting = ScaledTimer(
            self._reactor, HELLO_DEADLINE_S, lambda: self._silent(peer, greeting.waited_s), peer.timeout_scale
        )
        peer.when_closed().addBoth(lambda _: greeting.cancel())

    def _silent(self, peer: Peer, waited_s: float) -> None:
        if self._directory.peer(peer.caller.name) is not peer and peer not in self._recorders:
            peer.close(f"no hello within {waited_s:.0f} s")

    def _lost(self, peer: Peer, why: str) -> None:
        self._peers.discard(peer)
        self._recorders.discard(peer)
        self._directory.lost(peer, why)

    async def _hello(self, call: Call, hello: Hello) -> Welcome:
        agent = self._agent_of(call)
        peer = call.peer
        if peer is None:
            raise RpcError(NOT_CONNECTED, "hello needs a connection")
        agent.heard_s = self._reactor.seconds()
        describe_certificate = call.caller.certificate
        if describe_certificate is not None:
            agent.certified_until_s = max(agent.certified_until_s or 0.0, describe_certificate.not_after_s)
        self._directory.connected(agent, peer, hello)
        # After the answer: preparations call the agent, which accepts no call before its welcome.
        self._reactor.callLater(0, lambda: Deferred.fromCoroutine(self._prepare(agent, peer)))
        return Welcome(
            protocol_version=negotiate(hello.protocol_version),
            host_uuid=self._host_uuid,
            clock_unix_s=self._clock(),
            ping_interval_s=self._ping_interval_s,
        )

    async def _prepare(self, agent: Agent, peer: Connection) -> None:
        """Run the preparations until all succeed or the connection is lost; then the agent is Up.

        An agent of an incompatible protocol is not prepared: it stays connected, to be patched or replaced.
        """
        if agent.fit is not Compatibility.GOOD:
            if agent.peer is peer:
                self._directory.set_status(agent, _unfit(agent))
            return
        backoff = Backoff(first_s=2.0, last_s=30.0)
        while agent.peer is peer:
            try:
                for preparation in self._directory.preparations(agent.role):
                    await preparation(agent)
            except NotReadyError as error:
                status = error.status
            except RpcError as error:
                status = AgentStatus(AgentState.ALERT, f"could not be set up: {error.message}", error.hint)
            except Exception as error:
                self._log.failure("cannot prepare {name}", name=agent.name)
                status = AgentStatus(
                    AgentState.ALERT, f"could not be set up: {error}", "see the log of the management daemon"
                )
            else:
                if agent.peer is peer:
                    await self._directory.came_up(agent)
                return
            if agent.peer is not peer:
                return
            self._directory.set_status(agent, status)
            await deferLater(self._reactor, backoff.next_s())

    async def _ping(self, call: Call, ping: Ping) -> Pong:
        agent = self._agent_of(call)
        agent.heard_s = self._reactor.seconds()
        if self._clocks is not None:
            self._clocks.heard(agent, ping.sent_unix_s)
        return Pong(sent_unix_s=ping.sent_unix_s, clock_unix_s=self._clock())

    async def _attach(self, call: Call, params: None) -> Acknowledgement:
        self._agent_of(call)
        if call.peer is None:
            raise RpcError(NOT_CONNECTED, "recordings need a connection")
        self._recorders.add(call.peer)
        return Acknowledgement()

    async def _sign(self, call: Call, request: SigningRequest) -> SignedCertificate:
        agent = self._agent_of(call)
        try:
            certificate = self._authority.sign(request.csr_pem, agent.name, agent.role)
        except SigningRefusedError as error:
            raise RpcError.refused(CallRefusal.SIGNING_REFUSED, str(error)) from error
        # first: a daemon that is killed here must know its certificates afterwards
        await self._authority.recorded(certificate.encode())
        self._log.info("signed a certificate for {name}", name=agent.name)
        agent.trusts = self._authority.roots.bundle_id
        agent.certified_until_s = describe_certificate_pem(certificate.encode()).not_after_s
        return SignedCertificate(certificate, self._authority.ca_pem.decode())

    def _guard(self, call: Call, method: Method) -> None:
        """Refuse calls of an agent of an incompatible protocol, except those that keep it alive."""
        agent = self._directory.agent(call.caller.name)
        if (
            agent is not None
            and agent.fit is not Compatibility.GOOD
            and method.name not in VERSION_INDEPENDENT_METHODS
        ):
            status = _unfit(agent)
            raise RpcError.refused(CallRefusal.PROTOCOL_VERSION, f"this agent {status.reason}", status.hint)

    def _agent_of(self, call: Call) -> Agent:
        agent = self._directory.agent(call.caller.name)
        if agent is None:
            raise RpcError(FORBIDDEN, f"system VM {call.caller.name} no longer exists")
        return agent


async def _speaks_for_itself(call: Call, hello: Hello) -> bool:
    return VmName(hello.name) == VmName(call.caller.name) and hello.role == call.caller.role


def _unfit(agent: Agent) -> AgentStatus:
    """Return the status of an agent of an incompatible protocol."""
    version = agent.hello.protocol_version if agent.hello is not None else 0
    versions = f"protocol version {version}, this daemon supports {OLDEST} to {CURRENT}"
    replace = f"run systemvm system-vm destroy {agent.name} to replace it by one of this daemon's image"
    if agent.fit is Compatibility.TOO_NEW:
        reason, first = "is newer than this daemon", "upgrade the management daemon"
    else:
        reason, first = "is too old", f"run systemvm system-vm patch {agent.name} to update it"
    return AgentStatus(AgentState.ALERT, f"{reason}: {versions}", f"{first}; or {replace}")

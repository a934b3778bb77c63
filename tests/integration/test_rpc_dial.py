# SPDX-License-Identifier: Apache-2.0
"""The agent's dialer against real servers on loopback: the daemon's listener, and servers to refuse.

The servers to refuse use the standard library's `ssl`: they accept any client and record what it sends.
"""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol

from rpc_pki import CLIENT, HOUR, SERVER, TestAuthority
from rpc_wait import until
from systemvm.rpc.core import peer as peer_module
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.dialer import Dialer
from systemvm.rpc.stream.listener import listen
from systemvm.rpc.tls.identity import Identity
from systemvm.service.backoff import Backoff
from systemvm.wire.agent import Ping, Pong

AUTHORITY = TestAuthority()
OTHER_CA = TestAuthority()
AGENT = AUTHORITY.agent()
REACTOR: Any = reactor
MANAGEMENT = ["host-1.management.systemvm", "management.systemvm"]


class Agent:
    """A dialer that calls ping as its hello, and records what happened."""

    def __init__(self, port: int, *, identity: Identity = AGENT, hello_deadline_s: float = 30.0) -> None:
        self.identity = identity
        self.greeted: list[Peer] = []
        self.states: list[str] = []
        self.waits_s: list[float] = []
        self.hello_deadline_s = hello_deadline_s
        methods = MethodTable("agent", "1")
        methods.add("ping", self._ping, params=Ping, result=Pong, roles=frozenset({"management"}))
        backoff = Backoff(first_s=0.02, last_s=0.08, uniform=self._longest)
        self.dialer = Dialer(
            reactor,
            lambda: self.identity,
            methods,
            [("127.0.0.1", port)],
            self._hello,
            self.states.append,
            backoff=backoff,
        )

    def _longest(self, low_s: float, high_s: float) -> float:
        self.waits_s.append(high_s)
        return high_s

    async def _hello(self, peer: Peer) -> None:
        self.greeted.append(peer)
        await peer.call("ping", Ping(1.0), result=Pong, deadline_s=self.hello_deadline_s)

    async def _ping(self, call: Call, params: Ping) -> Pong:
        return Pong(params.sent_unix_s, 3.0)

    async def run_until(self, condition: Any) -> None:
        self.dialer.start()
        try:
            await until(condition)
        finally:
            await self.dialer.stop()


class Daemon:
    """The daemon's listener, which can be restarted on its port."""

    def __init__(self, identity: Identity | None = None) -> None:
        self.identity = identity or AUTHORITY.daemon()
        self.peers: list[Peer] = []
        self.lost: list[str] = []
        self.refuses = False
        self.methods = MethodTable("daemon", "1")
        self.methods.add("ping", self._ping, params=Ping, result=Pong, roles=frozenset({"ssvm"}))
        self.port_number = 0
        self._port: IListeningPort | None = None

    async def start(self) -> None:
        port: Any = await listen(
            reactor,
            lambda: self.identity,
            self.methods,
            interface="127.0.0.1",
            port=self.port_number,
            known=self._known,
            on_connected=self.peers.append,
            on_lost=lambda peer, why: self.lost.append(why),
        )
        self._port, self.port_number = port, port.getHost().port

    async def stop(self) -> None:
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)
            self._port = None
        for peer in self.peers:
            peer.close("restart")
        await until(lambda: len(self.lost) == len(self.peers))

    def _known(self, caller: Caller) -> None:
        if self.refuses:
            raise RpcError.refused("unknown", "no such system VM")

    async def _ping(self, call: Call, params: Ping) -> Pong:
        return Pong(params.sent_unix_s, 2.0)


@pytest_twisted.async_yield_fixture
async def daemon() -> Any:
    started = Daemon()
    await started.start()
    yield started
    await started.stop()


class Impostor:
    """A TLS server of the standard library: it accepts any client and records every byte that it can read."""

    def __init__(self, identity: Identity | None, *, tls_1_2: bool = False, greeting: bytes = b"") -> None:
        self.received: list[bytes] = []
        self.attempts = 0
        self._greeting = greeting
        self._context: ssl.SSLContext | None = None
        if identity is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            if tls_1_2:
                self._context.maximum_version = ssl.TLSVersion.TLSv1_2
            with tempfile.NamedTemporaryFile() as file:
                file.write(identity.private_key_pem + identity.certificate_pem)
                file.flush()
                self._context.load_cert_chain(file.name)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            accepted.settimeout(20)
            self.attempts += 1
            with contextlib.suppress(OSError), accepted:
                if self._context is None:
                    accepted.sendall(self._greeting)
                    accepted.recv(65536)
                    continue
                with self._context.wrap_socket(accepted, server_side=True) as secure:
                    while data := secure.recv(65536):
                        self.received.append(data)

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def impostor(identity: Identity | None, **options: Any) -> Iterator[Impostor]:
    server = Impostor(identity, **options)
    try:
        yield server
    finally:
        server.stop()


async def is_refused(server: Impostor) -> Agent:
    """Assert that the agent dials again, sends no byte of a frame and never calls hello."""
    agent = Agent(server.port)
    await agent.run_until(lambda: server.attempts >= 3)
    assert agent.greeted == [] and server.received == []
    assert agent.waits_s == sorted(agent.waits_s) and agent.dialer.connections == 0
    return agent


@pytest_twisted.ensureDeferred
async def test_agent_and_daemon_call_each_other(daemon: Daemon) -> None:
    agent = Agent(daemon.port_number)
    agent.dialer.start()
    await until(lambda: agent.dialer.peer is not None)
    assert agent.dialer.peer is not None
    assert agent.dialer.peer.caller == Caller("host-1", "management")
    assert daemon.peers[0].caller == Caller("s-1-VM", "ssvm")
    assert await daemon.peers[0].call("ping", Ping(5.0), result=Pong) == Pong(5.0, 3.0)
    await agent.dialer.stop()
    assert agent.dialer.peer is None
    await until(lambda: bool(daemon.lost))


BAD_DAEMONS = {
    "another CA": OTHER_CA.daemon(),
    "expired": AUTHORITY.issue(MANAGEMENT, [SERVER], begins=-2 * HOUR, ends=-datetime.timedelta(minutes=1)),
    "not yet valid": AUTHORITY.issue(MANAGEMENT, [SERVER], begins=HOUR, ends=2 * HOUR),
    "wrong name": AUTHORITY.issue(["host-1.management.systemvm"], [SERVER]),
    "no name": AUTHORITY.issue([], [SERVER]),
    "an agent's certificate": AUTHORITY.agent(),
    "an agent's name for servers": AUTHORITY.issue(["s-1-vm.ssvm.systemvm"], [SERVER]),
    "a daemon's name for clients": AUTHORITY.issue(MANAGEMENT, [CLIENT]),
    "a daemon's name for both": AUTHORITY.issue(MANAGEMENT, [CLIENT, SERVER]),
    "a daemon's name for anything": AUTHORITY.issue(MANAGEMENT, []),
}


@pytest.mark.parametrize("what", BAD_DAEMONS)
@pytest_twisted.ensureDeferred
async def test_a_server_with_a_bad_certificate_is_refused(what: str) -> None:
    with impostor(BAD_DAEMONS[what]) as server:
        await is_refused(server)


@pytest_twisted.ensureDeferred
async def test_the_same_server_with_a_good_certificate_is_greeted() -> None:
    """Control for the tests above: the certificate is their only difference."""
    with impostor(AUTHORITY.daemon()) as server:
        agent = Agent(server.port, hello_deadline_s=0.3)
        await agent.run_until(lambda: bool(server.received))
        assert b'"method":"ping"' in b"".join(server.received)


@pytest_twisted.ensureDeferred
async def test_a_server_of_tls_1_2_is_refused() -> None:
    with impostor(AUTHORITY.daemon(), tls_1_2=True) as server:
        await is_refused(server)


@pytest.mark.parametrize("greeting", [b"220 hello\r\n", bytes(50_000), b""])
@pytest_twisted.ensureDeferred
async def test_a_server_without_tls_is_refused(greeting: bytes) -> None:
    with impostor(None, greeting=greeting) as server:
        await is_refused(server)


@pytest.mark.parametrize(
    "identity",
    [
        OTHER_CA.issue(["s-1-vm.ssvm.systemvm"], [CLIENT], trusts=AUTHORITY),
        AUTHORITY.issue(["s-1-vm.ssvm.systemvm"], [CLIENT], begins=-2 * HOUR, ends=-HOUR),
        AUTHORITY.daemon(),
    ],
    ids=["another CA", "expired", "a daemon's certificate"],
)
@pytest_twisted.ensureDeferred
async def test_an_agent_the_daemon_refuses_never_counts_as_connected(
    daemon: Daemon, identity: Identity
) -> None:
    """In TLS 1.3 the agent's handshake ends before the refusal comes: hello fails, and waits grow."""
    agent = Agent(daemon.port_number, identity=identity)
    await agent.run_until(lambda: len(agent.waits_s) >= 5)
    assert agent.waits_s[:5] == [0.02, 0.04, 0.08, 0.08, 0.08]
    assert agent.dialer.connections == 0 and daemon.peers == []


@pytest_twisted.ensureDeferred
async def test_an_agent_that_is_unknown_to_the_daemon_never_counts_as_connected(daemon: Daemon) -> None:
    daemon.refuses = True
    agent = Agent(daemon.port_number)
    await agent.run_until(lambda: len(agent.waits_s) >= 4)
    assert agent.dialer.connections == 0 and daemon.peers == []


@pytest_twisted.ensureDeferred
async def test_the_agent_reconnects_after_a_restart_and_resets_its_backoff(daemon: Daemon) -> None:
    agent = Agent(daemon.port_number)
    agent.dialer.start()
    await until(lambda: agent.dialer.connections == 1)
    await daemon.stop()
    await until(lambda: len(agent.waits_s) >= 5)
    assert agent.dialer.peer is None
    assert agent.waits_s[0] == 0.02 and agent.waits_s[4] == 0.08
    await daemon.start()
    await until(lambda: agent.dialer.connections == 2)
    waits_before = len(agent.waits_s)
    daemon.peers[-1].close("restart")
    await until(lambda: agent.dialer.connections == 3)
    assert agent.waits_s[waits_before] == 0.02
    await agent.dialer.stop()


@pytest_twisted.ensureDeferred
async def test_a_call_in_flight_fails_when_the_daemon_dies(daemon: Daemon) -> None:
    async def hang(call: Call, params: None) -> None:
        daemon.peers[-1].close("killed")

    daemon.methods.add("hang", hang, params=None, result=None, roles=frozenset({"ssvm"}))
    agent = Agent(daemon.port_number)
    agent.dialer.start()
    await until(lambda: agent.dialer.peer is not None)
    assert agent.dialer.peer is not None
    with pytest.raises(RpcError) as caught:
        await agent.dialer.peer.call("hang")
    assert caught.value.code == -32002
    await agent.dialer.stop()


@pytest_twisted.ensureDeferred
async def test_a_renewed_identity_is_used_at_the_next_attempt(daemon: Daemon) -> None:
    agent = Agent(daemon.port_number, identity=OTHER_CA.agent())
    agent.dialer.start()
    await until(lambda: len(agent.waits_s) >= 2)
    agent.identity = Identity(b"", b"", b"")
    await until(lambda: any("unusable" in state for state in agent.states))
    agent.identity = AUTHORITY.agent("s-2-vm")
    await until(lambda: agent.dialer.connections == 1)
    assert daemon.peers[0].caller.name == "s-2-VM"
    await agent.dialer.stop()


@pytest_twisted.ensureDeferred
async def test_a_dialer_stops_in_any_state(daemon: Daemon) -> None:
    agent = Agent(daemon.port_number)
    await agent.dialer.stop()
    agent.dialer.start()
    await agent.dialer.stop()
    agent.dialer.start()
    await until(lambda: agent.dialer.peer is not None)
    await agent.dialer.stop()
    await daemon.stop()
    agent.dialer.start()
    await until(lambda: bool(agent.waits_s))
    await agent.dialer.stop()
    assert agent.dialer.peer is None


class _Leg(Protocol):
    """One side of a forwarder, which discards all data when the cable is pulled."""

    def __init__(self, cable: Cable) -> None:
        self.cable = cable
        self.other: _Leg | None = None
        self.waiting: list[bytes] = []

    def connectionMade(self) -> None:
        self.cable.legs.append(self)

    def dataReceived(self, data: bytes) -> None:
        if self.cable.pulled:
            return
        if self.other is None or self.other.transport is None:
            self.waiting.append(data)
        else:
            self.other.transport.write(data)


class Cable:
    """A TCP forwarder between agent and daemon, which a test can interrupt without FIN or RST."""

    def __init__(self, target_port: int) -> None:
        self.pulled = False
        self.legs: list[_Leg] = []
        self._target_port = target_port
        factory: Any = Factory.forProtocol(self._near)
        self._port: Any = REACTOR.listenTCP(0, factory, interface="127.0.0.1")
        self.port = self._port.getHost().port

    def _near(self) -> _Leg:
        near, far = _Leg(self), _Leg(self)
        near.other, far.other = far, near
        made = far.connectionMade

        def connected() -> None:
            made()
            for data in near.waiting:
                far.transport.write(data)  # type: ignore[union-attr]

        far.connectionMade = connected  # type: ignore[method-assign]
        factory: Any = Factory.forProtocol(lambda: far)
        factory.startedConnecting = factory.clientConnectionLost = lambda *_: None
        factory.clientConnectionFailed = factory.startedConnecting
        REACTOR.connectTCP("127.0.0.1", self._target_port, factory)
        return near

    async def stop(self) -> None:
        await maybeDeferred(self._port.stopListening)
        for leg in self.legs:
            leg.transport.abortConnection()  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
async def test_a_half_open_connection_is_detected_at_both_ends(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither end sends FIN or a frame: the probes detect it, and the agent redials."""
    monkeypatch.setattr(peer_module, "PROBE_AFTER_S", 0.2)
    monkeypatch.setattr(peer_module, "SILENT_AFTER_S", 0.6)
    cable = Cable(daemon.port_number)
    agent = Agent(cable.port, hello_deadline_s=0.5)
    agent.dialer.start()
    await until(lambda: agent.dialer.peer is not None)
    cable.pulled = True
    await until(lambda: agent.dialer.peer is None and len(daemon.lost) == len(daemon.peers))
    assert "silent" in daemon.lost[0]
    # on a slow machine the dialer reports its state later than the daemon
    await until(lambda: any("silent" in state for state in agent.states))
    cable.pulled = False
    await until(lambda: agent.dialer.connections == 2)
    await agent.dialer.stop()
    await cable.stop()


@pytest_twisted.ensureDeferred
async def test_an_agent_disconnects_from_a_daemon_that_does_not_answer_hello(daemon: Daemon) -> None:
    with impostor(AUTHORITY.daemon()) as server:
        agent = Agent(server.port, hello_deadline_s=0.1)
        await agent.run_until(lambda: len(agent.waits_s) >= 3)
        assert agent.dialer.connections == 0
        assert any("did not answer" in state for state in agent.states)

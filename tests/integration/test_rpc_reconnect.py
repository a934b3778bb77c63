# SPDX-License-Identifier: Apache-2.0
"""The agent's dialer after a lost connection: it redials with backoff, and detects a half-open connection."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Factory, Protocol

from integration.dialer_lab import (
    AUTHORITY,
    OTHER_CA,
    REACTOR,
    Agent,
    Daemon,
    daemon,
    impostor,
)
from rpc_wait import until
from systemvm.rpc.core import peer as peer_module
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call
from systemvm.rpc.tls.identity import Identity

__all__ = ["daemon"]  # a fixture


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
    # the first attempts can have ended otherwise: hello has half a second
    assert "silent" in daemon.lost[-1]
    # on a slow machine the dialer reports its state later than the daemon
    await until(lambda: any("silent" in state for state in agent.states))
    cable.pulled = False
    await until(lambda: agent.dialer.connections >= 2)
    await agent.dialer.stop()
    await cable.stop()


@pytest_twisted.ensureDeferred
async def test_an_agent_disconnects_from_a_daemon_that_does_not_answer_hello(daemon: Daemon) -> None:
    with impostor(AUTHORITY.daemon()) as server:
        agent = Agent(server.port, hello_deadline_s=0.1)
        await agent.run_until(lambda: len(agent.waits_s) >= 3)
        assert agent.dialer.connections == 0
        assert any("did not answer" in state for state in agent.states)

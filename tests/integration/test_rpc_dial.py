# SPDX-License-Identifier: Apache-2.0
"""The agent's dialer against real servers on loopback: the daemon's listener, and servers to refuse.

The servers to refuse use the standard library's `ssl`: they accept any client and record what it sends.
"""

from __future__ import annotations

import datetime

import pytest
import pytest_twisted

from integration.dialer_lab import (
    AUTHORITY,
    MANAGEMENT,
    OTHER_CA,
    Agent,
    Daemon,
    Impostor,
    daemon,
    impostor,
)
from rpc_pki import CLIENT, HOUR, SERVER
from rpc_wait import until
from systemvm.rpc.core.method import Caller
from systemvm.rpc.tls.identity import Identity
from systemvm.wire.agent import Ping, Pong

__all__ = ["daemon"]  # a fixture


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

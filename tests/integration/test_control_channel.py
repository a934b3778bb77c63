# SPDX-License-Identifier: Apache-2.0
"""The daemon's control listener with a real agent's dialer, over mutual TLS on loopback."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor

from integration.control_lab import FakeAgent, World, hello, world
from rpc_wait import until
from systemvm.management.control import channel as channel_module
from systemvm.management.control.agent import Agent, AgentStatus
from systemvm.management.control.supervision import AgentSupervisor
from systemvm.management.pki import control as pki_control
from systemvm.management.pki.control import ControlAuthority, DaemonIdentity
from systemvm.management.state import events, instances
from systemvm.management.state.status import AgentState, InstanceType
from systemvm.rpc.core.errors import FORBIDDEN, REFUSED, RpcError
from systemvm.rpc.core.method import MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.dialer import Dialer
from systemvm.rpc.tls.identity import Identity
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.agent import (
    HEALTH,
    PING,
    SIGN,
    Health,
    Ping,
    Pong,
    SignedCertificate,
    SigningRequest,
)
from systemvm.wire.recording import CONSOLE_RECORDER
from systemvm.wire.role import Role

__all__ = ["world"]  # the fixture


@pytest_twisted.ensureDeferred
async def test_an_agent_sends_hello_and_is_up(world: World) -> None:
    up_agents: list[str] = []

    async def up(agent: Agent) -> None:
        row = await world.database.read(instances.by_instance_name, agent.name)
        up_agents.append(f"{agent.name} {row.agent_state}")

    world.directory.on_up(up)
    agent = world.agent()
    await until(lambda: bool(up_agents))
    await until(lambda: agent.welcome is not None)  # the daemon can be first
    assert up_agents == ["s-1-VM AgentState.UP"]  # the row is written before subscribers are called
    assert agent.welcome is not None
    assert (agent.welcome.host_uuid, agent.welcome.ping_interval_s) == ("host-uuid", 0.2)
    row = await world.database.read(instances.by_instance_name, "s-1-VM")
    assert (row.image_version, row.host_keys, row.disconnected) == ("0.1.0", ["ssh-ed25519 AAAA"], None)
    assert world.directory.up(Role.SSVM) == ["s-1-VM"]
    health = await world.directory.call("s-1-VM", HEALTH, result=Health)
    assert health.uptime_s == 1.0
    peer = await agent.connected()
    pong = await peer.call(PING, Ping(1.5), result=Pong)
    assert pong.sent_unix_s == 1.5


@pytest_twisted.ensureDeferred
async def test_a_recorder_has_a_connection_beside_its_agents(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "HELLO_DEADLINE_S", 0.5)
    world.database.run_now(
        lambda connection: instances.create(
            connection, InstanceType.CONSOLE_PROXY, account_id=1, zone_id=1, name="v-2-VM"
        )
    )
    world.directory.expect("v-2-VM", Role.CPVM)
    identity = world.authority.bootstrap("v-2-VM", Role.CPVM)
    agent = FakeAgent(world.port, identity, hello(name="v-2-VM", role="cpvm")).start()
    world.agents.append(agent)
    peer = await agent.connected()
    ended: list[str] = []

    async def introduce(to: Peer) -> None:
        await to.call(CONSOLE_RECORDER, None, result=Acknowledgement)

    async def say_nothing(to: Peer) -> None:
        to.when_closed().addCallback(ended.append)

    def dialer(greet: Any) -> Dialer:
        methods = MethodTable("recorder", "0")
        made = Dialer(reactor, lambda: identity, methods, [("127.0.0.1", world.port)], greet)
        made.start()
        return made

    recorder = dialer(introduce)
    await until(lambda: recorder.peer is not None)
    silent = dialer(say_nothing)
    await until(lambda: bool(ended))  # later than the recorder's connection, it is closed for its silence
    assert recorder.peer is not None and not recorder.peer.closed and not peer.closed
    assert world.directory.peer("v-2-VM") is not None
    await recorder.stop()
    await peer.call(PING, Ping(1.5), result=Pong)
    assert world.directory.up(Role.CPVM) == ["v-2-VM"]
    await silent.stop()


@pytest_twisted.ensureDeferred
async def test_the_channel_applies_the_same_checks_at_every_address(world: World) -> None:
    identity = DaemonIdentity(world.authority, "host1")
    other_port = await world.channel.listen(identity, "127.0.0.1", 0)
    assert other_port != world.port
    unknown = FakeAgent(other_port, world.authority.bootstrap("s-1-VM", Role.CPVM), hello()).start()
    agent = FakeAgent(other_port, world.authority.bootstrap("s-1-VM", Role.SSVM), hello()).start()
    world.agents += [unknown, agent]
    await until(lambda: any("not connected" in text for text in unknown.states))
    assert unknown.welcome is None
    await until(lambda: world.ssvm.is_up)
    await until(lambda: agent.welcome is not None)  # the daemon sees it Up before the agent reads this


@pytest_twisted.ensureDeferred
async def test_its_own_key_is_signed_over_the_channel(world: World) -> None:
    agent = world.agent()
    await until(lambda: world.ssvm.is_up)
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = csr.public_bytes(serialization.Encoding.PEM).decode()
    peer = await agent.connected()
    signed = await peer.call(SIGN, SigningRequest(pem), result=SignedCertificate)
    assert signed.ca_pem.encode() == world.authority.ca_pem
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    await agent.dialer.stop()
    renewed = Identity(private, signed.certificate_pem.encode(), signed.ca_pem.encode())
    again = world.agent(renewed)
    await until(lambda: again.welcome is not None)
    stolen = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("v-2-vm.cpvm.systemvm")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    peer = await again.connected()
    with pytest.raises(RpcError) as refused:
        await peer.call(SIGN, SigningRequest(stolen.public_bytes(serialization.Encoding.PEM).decode()))
    assert (refused.value.code, refused.value.reason) == (REFUSED, "signing-refused")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "s-2-VM"}, FORBIDDEN),
        ({"role": "cpvm"}, FORBIDDEN),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_hello_that_does_not_match_the_certificate_is_refused(
    world: World, changes: dict[str, Any], code: int
) -> None:
    agent = world.agent(**changes)
    await until(lambda: agent.refusal is not None)
    assert agent.refusal is not None
    assert agent.refusal.code == code
    assert agent.dialer.peer is None
    assert world.directory.up(Role.SSVM) == []


@pytest_twisted.ensureDeferred
async def test_invalid_certificates_are_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other_ca = ControlAuthority.open(tmp_path / "other").bootstrap("s-1-VM", Role.SSVM)
    mixed = Identity(other_ca.private_key_pem, other_ca.certificate_pem, world.authority.ca_pem)
    monkeypatch.setattr(pki_control, "BOOTSTRAP_LIFETIME", timedelta(minutes=-59))
    expired = world.authority.bootstrap("s-1-VM", Role.SSVM)
    monkeypatch.undo()
    invalid = [
        mixed,
        expired,
        world.authority.bootstrap("s-9-VM", Role.SSVM),
        world.authority.bootstrap("s-1-VM", Role.CPVM),
        world.authority.daemon_identity("s-1-vm"),
    ]
    agents = [world.agent(identity) for identity in invalid]
    await until(lambda: all(any("not connected" in text for text in agent.states) for agent in agents))
    assert [agent.welcome for agent in agents] == [None] * len(agents)
    assert world.ssvm.peer is None


@pytest_twisted.ensureDeferred
async def test_a_lost_connection_is_an_alert_and_the_agent_comes_back(world: World) -> None:
    downs: list[str] = []
    world.directory.on_down(lambda agent, why: downs.append(agent.name))
    agent = world.agent()
    await until(lambda: world.ssvm.is_up)
    (await agent.connected()).close("the test closes it")
    await until(lambda: bool(downs))
    assert world.ssvm.status.state is AgentState.ALERT
    assert "lost its connection" in world.ssvm.status.reason
    with pytest.raises(RpcError, match="lost its connection"):
        await world.directory.call("s-1-VM", HEALTH)
    await until(lambda: world.ssvm.is_up)
    await until(lambda: agent.dialer.connections == 2)


@pytest_twisted.ensureDeferred
async def test_a_newer_connection_replaces_an_older_one(world: World) -> None:
    first = world.agent()
    await until(lambda: world.ssvm.is_up)
    old = world.ssvm.peer
    await until(lambda: first.dialer.peer is not None)
    second = world.agent()
    await until(lambda: second.welcome is not None and world.ssvm.peer is not old)
    await first.dialer.stop()
    await until(lambda: world.ssvm.is_up)


@pytest_twisted.ensureDeferred
async def test_an_agent_is_up_when_its_preparation_is_done(world: World) -> None:
    attempts: list[str] = []

    async def mount(agent: Agent) -> None:
        attempts.append(agent.status.state.value)
        if len(attempts) == 1:
            raise RpcError.refused("mount-failed", "the NFS server does not answer", "is it running?")

    world.directory.prepare(Role.SSVM, mount)
    world.agent()
    await until(lambda: world.ssvm.status.state is AgentState.ALERT)
    assert world.ssvm.status.reason == "could not be set up: the NFS server does not answer"
    assert world.ssvm.status.hint == "is it running?"
    assert world.directory.up(Role.SSVM) == []
    await until(lambda: world.ssvm.is_up)
    assert attempts == ["Connecting", "Alert"]


@pytest_twisted.ensureDeferred
async def test_a_silent_agent_is_an_alert_until_it_answers(world: World) -> None:
    supervision = AgentSupervisor(reactor, world.directory, interval_s=0.1, missed_pings=2.5)
    agent = world.agent()
    await until(lambda: world.ssvm.is_up)
    supervision.start()
    try:
        await until(lambda: world.ssvm.health is not None)
        agent.healthy = False
        await until(lambda: world.ssvm.status.state is AgentState.ALERT)
        assert "has not answered for" in world.ssvm.status.reason
        agent.healthy = True
        await until(lambda: world.ssvm.is_up)
    finally:
        supervision.stop()


@pytest_twisted.ensureDeferred
async def test_a_removed_agent_is_disconnected_and_refused(world: World) -> None:
    agent = world.agent()
    await agent.connected()
    world.directory.forget("s-1-VM", "the system VM was destroyed")
    await until(lambda: agent.dialer.peer is None)
    seen = len(agent.states)
    await until(lambda: any("not connected" in text for text in agent.states[seen:]))
    assert world.directory.peer("s-1-VM") is None


@pytest_twisted.ensureDeferred
async def test_repeated_alerts_are_one_event(world: World) -> None:
    silent = AgentStatus(AgentState.ALERT, "has not answered for 60 s", "look")
    for status in (silent, AgentStatus(AgentState.UP), silent):
        world.directory.set_status(world.ssvm, status)
        await world.database.run(lambda connection: None)  # there is one writer: all before this is written
    found = await world.database.read(events.newest, 10)
    alerts = [event.description for event in found if event.type == "AGENT.ALERT"]
    assert alerts == ["the agent of s-1-VM has not answered for 60 s"]
    row = await world.database.read(instances.by_instance_name, "s-1-VM")
    [alert] = [event for event in found if event.type == "AGENT.ALERT"]
    assert alert.resource_uuid == row.uuid

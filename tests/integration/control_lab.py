# SPDX-License-Identifier: Apache-2.0
"""The daemon's control channel with fake agents that dial it over mutual TLS."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest_twisted
from attrs import define, field
from twisted.internet import reactor, task

from rpc_wait import until
from systemvm.management.control.agent import Agent
from systemvm.management.control.agent_state_recorder import AgentStateRecorder
from systemvm.management.control.channel import ControlChannel
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.first_start import make_first_accounts
from systemvm.management.pki.control import ControlAuthority, DaemonIdentity
from systemvm.management.pki.seal import Seal
from systemvm.management.state import instances, zones
from systemvm.management.state.database import Database
from systemvm.management.state.status import InstanceType
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.dialer import Dialer
from systemvm.rpc.tls.identity import Identity
from systemvm.wire import protocol
from systemvm.wire.agent import (
    HEALTH,
    HELLO,
    Health,
    Hello,
    Welcome,
)
from systemvm.wire.role import Role

MANAGEMENT = frozenset({Role.MANAGEMENT.value})


def hello(**changes: Any) -> Hello:
    values: dict[str, Any] = {
        "protocol_version": protocol.CURRENT,
        "name": "s-1-VM",
        "role": "ssvm",
        "agent_version": "0.1.0",
        "image_version": "0.1.0",
        "image_sha256": "a" * 64,
        "boot_id": "b",
        "clock_unix_s": time.time(),
        "host_keys": ["ssh-ed25519 AAAA"],
    }
    return Hello(**{**values, **changes})


@define
class FakeAgent:
    """A dialer that behaves like an agent; a test sets what it answers."""

    port: int
    identity: Identity
    hello: Hello = field(factory=hello)
    welcome: Welcome | None = None
    refusal: RpcError | None = None
    states: list[str] = field(factory=list)
    healthy: bool = True
    dialer: Dialer = field(init=False)

    def start(self) -> FakeAgent:
        methods = MethodTable("agent", "0")
        methods.add(HEALTH, self._health, params=None, result=Health, roles=MANAGEMENT)
        self.dialer = Dialer(
            reactor,
            lambda: self.identity,
            methods,
            [("127.0.0.1", self.port)],
            self._greet,
            self.states.append,
        )
        self.dialer.start()
        return self

    async def connected(self) -> Peer:
        """Return the peer when there is one; the daemon can be Up before the agent has read Welcome."""
        await until(lambda: self.dialer.peer is not None)
        assert self.dialer.peer is not None
        return self.dialer.peer

    async def _greet(self, peer: Peer) -> None:
        try:
            self.welcome = await peer.call(HELLO, self.hello, result=Welcome)
        except RpcError as error:
            self.refusal = error
            raise

    async def _health(self, call: Call, params: None) -> Health:
        if not self.healthy:
            await task.deferLater(reactor, 3600)
        return Health(1.0, 0.0, 1, 1, 1, 1, [], 0)


@define
class World:
    database: Database
    directory: AgentDirectory
    authority: ControlAuthority
    channel: ControlChannel
    port: int
    agents: list[FakeAgent] = field(factory=list)

    def agent(self, identity: Identity | None = None, **changes: Any) -> FakeAgent:
        credentials = identity or self.authority.bootstrap("s-1-VM", Role.SSVM)
        agent = FakeAgent(self.port, credentials, hello(**changes)).start()
        self.agents.append(agent)
        return agent

    @property
    def ssvm(self) -> Agent:
        """Return the directory's entry of s-1-VM."""
        found = self.directory.agent("s-1-VM")
        assert found is not None
        return found


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path):  # type: ignore[no-untyped-def]
    database = Database.open(tmp_path / "db")
    make_first_accounts(database, Seal.open_key(tmp_path), tmp_path / "login")

    def fill(connection):  # type: ignore[no-untyped-def]
        zone = zones.put_zone(connection, "zone1", arch="amd64")
        instances.create(connection, InstanceType.SECONDARY_STORAGE, account_id=1, zone_id=zone.id)

    database.run_now(fill)
    directory, authority = AgentDirectory(lambda name: True), ControlAuthority.open(tmp_path)
    AgentStateRecorder(database, directory).subscribe()
    directory.expect("s-1-VM", Role.SSVM)
    methods = MethodTable("daemon", "0")
    channel = ControlChannel(
        reactor, directory, authority, methods, host_uuid="host-uuid", ping_interval_s=0.2
    )
    port = await channel.listen(DaemonIdentity(authority, "host1"), "127.0.0.1", 0)
    made = World(database, directory, authority, channel, port)
    yield made
    for agent in made.agents:
        await agent.dialer.stop()
    await channel.close()
    database.close()

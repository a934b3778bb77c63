# SPDX-License-Identifier: Apache-2.0
"""A real agent's identity on the real channel: expiry, a replaced CA, a revocation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from rpc_wait import until
from systemvm.guest.identity import AgentIdentity
from systemvm.guest.paths import GuestPaths
from systemvm.management.control.ca_rotation import CaRotation
from systemvm.management.control.certificates import AgentCertificates
from systemvm.management.control.channel import ControlChannel
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.first_start import make_first_accounts
from systemvm.management.pki import control as pki_control
from systemvm.management.pki.control import ControlAuthority, DaemonIdentity
from systemvm.management.pki.control_roots import Phase
from systemvm.management.pki.seal import Seal
from systemvm.management.state.database import Database
from systemvm.rpc.core.call import PeerCertificate
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.dialer import Dialer
from systemvm.rpc.tls.refusal import Refusal
from systemvm.service.backoff import Backoff
from systemvm.wire import boot_arguments
from systemvm.wire.agent import HELLO, RENEW, Hello, Welcome
from systemvm.wire.control_failure import ControlFailure
from systemvm.wire.role import Role

pytestmark = pytest.mark.timeout(90)
REACTOR: Any = reactor
NAME = "s-1-VM"


class World:
    """The daemon's real control channel, and an agent with the guest's own identity code."""

    def __init__(self, work: Path) -> None:
        self.database = Database.open(work / "db")
        make_first_accounts(self.database, Seal.open_key(work), work / "login")
        self.authority = ControlAuthority.open(work)
        self.directory = AgentDirectory(lambda name: True)
        self.agent = self.directory.expect(NAME, Role.SSVM)
        self.certificates = AgentCertificates(self.database, self.directory, self.authority, REACTOR)
        self.certificates.subscribe()
        self.refused: list[Refusal] = []
        self.channel = ControlChannel(
            REACTOR,
            self.directory,
            self.authority,
            MethodTable("daemon", "1"),
            host_uuid="host",
            ping_interval_s=1.0,
            on_refused=lambda address, refusal: self.refused.append(refusal),
        )
        self.rotation = CaRotation(
            REACTOR, self.directory, self.authority, lambda name: True, self.channel.recheck
        )
        self.rotation.subscribe()
        self.work = work
        self.dialer: Dialer | None = None

    async def start(self) -> None:
        self.port = port = await self.channel.listen(DaemonIdentity(self.authority, "host"), "127.0.0.1", 0)
        self.certificates.start(self.channel.recheck)
        credentials = self.work / "credentials"
        credentials.mkdir()
        bundle = self.authority.bootstrap(NAME, Role.SSVM).to_pem_bundle()
        (credentials / boot_arguments.IDENTITY_CREDENTIAL).write_bytes(bundle)
        self.identity = AgentIdentity(GuestPaths(self.work / "guest", credentials), NAME, Role.SSVM)
        methods = MethodTable("agent", "1")
        methods.add(RENEW, self._renew, params=None, result=None, roles=frozenset({"management"}))
        self.dialer = Dialer(
            REACTOR,
            self.identity.current,
            methods,
            [("127.0.0.1", port)],
            self._greet,
            backoff=Backoff(first_s=0.1, last_s=0.2),
        )
        self.dialer.start()
        await until(lambda: self.agent.is_up)

    async def stop(self) -> None:
        assert self.dialer is not None
        await self.dialer.stop()
        self.certificates.stop()
        self.rotation.stop()
        await self.channel.close()
        self.database.close()

    async def _greet(self, peer: Peer) -> None:
        await peer.call(HELLO, Hello(1, NAME, "ssvm", "1", "1", "a", "b", _now_s()), result=Welcome)

    async def _renew(self, call: Call, params: None) -> None:
        assert call.peer is not None
        await self.identity.renew(call.peer)

    async def renew(self) -> None:
        assert self.dialer is not None
        await until(lambda: self.dialer is not None and self.dialer.peer is not None)
        assert self.dialer.peer is not None
        await self.identity.renew(self.dialer.peer)

    def presented(self) -> PeerCertificate:
        """Return the certificate of the open connection."""
        assert self.agent.peer is not None and self.agent.peer.caller.certificate is not None
        return self.agent.peer.caller.certificate

    def is_up_with(self, matches: Callable[[PeerCertificate], bool]) -> bool:
        return self.agent.peer is not None and self.agent.is_up and matches(self.presented())


def _now_s() -> float:
    import time

    return time.time()


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path) -> Any:
    made = World(tmp_path)
    await made.start()
    yield made
    await made.stop()


@pytest_twisted.ensureDeferred
async def test_a_connection_ends_with_its_certificate_and_the_agent_reconnects_with_the_renewed_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.renew()
    assert world.agent.peer is not None
    world.agent.peer.close("use the new one")
    first = world.presented().serial
    await until(lambda: world.is_up_with(lambda certificate: certificate.serial != first))
    short = world.presented()
    # the daemon's clock is past the end of that one, and a newer one was issued
    monkeypatch.setattr(pki_control, "ISSUED_LIFETIME", timedelta(days=60))
    await world.renew()
    monkeypatch.setattr(world.certificates, "_clock", lambda: short.not_after_s + 1)
    world.certificates.check_all()
    await until(lambda: world.is_up_with(lambda certificate: certificate.serial != short.serial))
    assert world.presented().not_after_s > short.not_after_s


@pytest_twisted.ensureDeferred
async def test_the_control_ca_is_replaced_while_the_agent_is_up(world: World) -> None:
    old = world.authority.authority.key_id
    assert world.presented().authority_key_id == old
    world.rotation.start()
    world.rotation.begin()
    await until(lambda: world.authority.phase is Phase.STEADY)
    new = world.authority.authority.key_id
    assert new != old
    await until(lambda: world.is_up_with(lambda certificate: certificate.authority_key_id == new))
    # in the end the agent, too, trusts only the new one
    await until(lambda: world.identity.current().ca_pem == world.authority.ca_pem)
    assert world.rotation.progress().waits_for == []


@pytest_twisted.ensureDeferred
async def test_a_replacement_waits_for_a_running_agent_that_is_disconnected(world: World) -> None:
    world.directory.expect("v-2-VM", Role.CPVM)
    world.rotation.begin()
    await until(lambda: bool(world.rotation.progress().waits_for))
    assert world.rotation.progress().waits_for == ["v-2-VM: it is not connected"]
    assert world.authority.phase is Phase.INTRODUCED
    world.directory.forget("v-2-VM", "destroyed")
    await world.rotation.step()
    assert world.authority.phase is Phase.STEADY


@pytest_twisted.ensureDeferred
async def test_a_revoked_certificate_is_disconnected_at_once_and_refused_after(world: World) -> None:
    peer = world.agent.peer
    assert peer is not None
    await world.database.run(lambda connection: None)  # until the certificate is on record
    await world.certificates.revoke(world.presented().serial, "stolen")
    assert peer.closed
    await until(lambda: bool(world.refused))
    assert world.refused[0].check.value == "revoked"
    assert world.agent.peer is None


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_is_not_on_record_is_refused(world: World) -> None:
    """A stolen key of the control CA signs certificates that pass every check of TLS."""
    assert world.dialer is not None and world.agent.peer is not None
    genuine = world.agent.peer
    forged = ControlAuthority.open(world.work).bootstrap(NAME, Role.SSVM)
    dialer = Dialer(
        REACTOR,
        lambda: forged,
        MethodTable("agent", "1"),
        [("127.0.0.1", world.port)],
        world._greet,
        backoff=Backoff(first_s=0.1, last_s=0.2),
    )
    dialer.start()
    try:
        await until(lambda: bool(world.refused))
        assert world.refused[0].check is ControlFailure.OFF_RECORD
        assert dialer.peer is None
        assert world.agent.peer is genuine and not genuine.closed
    finally:
        await dialer.stop()

# SPDX-License-Identifier: Apache-2.0
"""Recorded certificates: revoked, expired and unrecorded ones are refused, and refusals are reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from prepared_database import open_first_start
from systemvm.management.control.agent import Agent, AgentStatus
from systemvm.management.control.certificates import LATE_AFTER_S, AgentCertificates
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.control.refusal_recorder import MAX_CONCURRENT, RefusalRecorder
from systemvm.management.pki.control import ControlAuthority
from systemvm.management.state import certificates as rows
from systemvm.management.state import events, instances, schema, zones
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.status import AgentState, InstanceState, InstanceType
from systemvm.rpc.core.call import Caller, PeerCertificate
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.tls.peer_certificate import describe_certificate_pem
from systemvm.rpc.tls.refusal import Refusal
from systemvm.wire.control_failure import ControlFailure
from systemvm.wire.role import Role

DAY_S = 86400.0


class ControlPlane:
    def __init__(self, directory: Path) -> None:
        self.database = open_first_start(directory / "db", directory)
        self.database.run_now(self._fill)
        self.now_s = 0.0
        self.reactor = Clock()
        self.directory = AgentDirectory(lambda name: True)
        self.agent = self.directory.expect("s-1-VM", Role.SSVM)
        self.authority = ControlAuthority.open(directory)
        self.certificates = self.restarted_certificates()

    def restarted_certificates(self) -> AgentCertificates:
        """Return what the daemon has after a restart."""
        made = AgentCertificates(
            self.database, self.directory, self.authority, self.reactor, lambda: self.now_s
        )
        made.subscribe()
        return made

    @staticmethod
    def _fill(connection: sa.Connection) -> None:
        zone = zones.put_zone(connection, "zone1", arch="amd64")
        vm = instances.create(connection, InstanceType.SECONDARY_STORAGE, account_id=1, zone_id=zone.id)
        instances.update(connection, vm.id, state=InstanceState.RUNNING)
        connection.execute(
            schema.nics.insert().values(
                vm_id=vm.id, device=0, traffic_type="control", bridge="cloud0", mac="0e:00:a9:fe:0a:02",
                address="169.254.10.2",
            )
        )  # fmt: skip

    def caller(self) -> Caller:
        """Return the caller with a new bootstrap certificate."""
        identity = self.authority.bootstrap("s-1-VM", Role.SSVM)
        return Caller("s-1-VM", "ssvm", describe_certificate_pem(identity.certificate_pem))


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    made = ControlPlane(tmp_path)
    yield made
    made.database.close()


async def settled(plane: ControlPlane) -> None:
    """Wait until the database has run the writes submitted before."""
    await plane.database.run(lambda connection: None)


@pytest_twisted.ensureDeferred
async def test_signed_certificate_is_recorded(plane: ControlPlane) -> None:
    caller = plane.caller()
    await settled(plane)
    (row,) = await plane.certificates.newest("s-1-vm")
    assert caller.certificate is not None
    assert (row.serial, row.name, row.kind) == (caller.certificate.serial, "s-1-VM", "bootstrap")
    assert row.not_after.timestamp() == caller.certificate.not_after_s
    assert row.revoked is None
    plane.authority.daemon_identity("host1")
    await settled(plane)
    assert [found.kind for found in await plane.certificates.newest()] == ["daemon", "bootstrap"]


@pytest_twisted.ensureDeferred
async def test_revoked_certificate_is_refused_at_once_and_permanently(plane: ControlPlane) -> None:
    caller, other = plane.caller(), plane.caller()
    rechecks: list[str] = []
    plane.certificates.start(lambda: rechecks.append("recheck"))
    await settled(plane)
    plane.directory.admit(caller)
    assert caller.certificate is not None
    await plane.certificates.revoke(caller.certificate.serial.upper(), "stolen")
    assert rechecks == ["recheck"]  # of live connections
    with pytest.raises(RpcError) as refused:
        plane.directory.admit(caller)
    assert refused.value.reason == "revoked"
    assert Refusal.of_application(refused.value).check is ControlFailure.REVOKED
    plane.directory.admit(other)
    restarted = plane.restarted_certificates()
    with pytest.raises(RpcError, match="revoked"):
        restarted.check(caller)
    (event,) = await plane.database.read(events.newest, 1)
    assert "stolen" in event.description
    with pytest.raises(NotFoundError):
        await plane.certificates.revoke("abcdef", "never issued")
    plane.certificates.stop()


@pytest_twisted.ensureDeferred
async def test_unrecorded_certificate_is_refused(plane: ControlPlane, tmp_path: Path) -> None:
    """Attack: a stolen key of the CA signs certificates that pass every check of TLS."""
    known = plane.caller()
    elsewhere = ControlAuthority.open(tmp_path)  # the same key, without records
    forged = describe_certificate_pem(elsewhere.bootstrap("s-1-VM", Role.SSVM).certificate_pem)
    await settled(plane)
    for certificates in (plane.certificates, plane.restarted_certificates()):
        certificates.check(known)
        with pytest.raises(RpcError, match="was not issued here") as refused:
            certificates.check(Caller("s-1-VM", "ssvm", forged))
        assert Refusal.of_application(refused.value).check is ControlFailure.OFF_RECORD


@pytest_twisted.ensureDeferred
async def test_certificate_is_not_issued_unless_recorded(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = plane.authority.bootstrap("s-1-VM", Role.SSVM)
    await plane.authority.recorded(identity.certificate_pem)

    def disk_full(connection: sa.Connection, **values: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(rows, "record", disk_full)
    identity = plane.authority.bootstrap("s-1-VM", Role.SSVM)
    with pytest.raises(RpcError, match="could not be recorded"):
        await plane.authority.recorded(identity.certificate_pem)
    with pytest.raises(RpcError, match="was not issued here"):
        plane.certificates.check(Caller("s-1-VM", "ssvm", describe_certificate_pem(identity.certificate_pem)))


def test_expired_certificate_and_one_of_a_removed_ca_are_refused(plane: ControlPlane) -> None:
    caller = plane.caller()
    plane.directory.recheck(caller)
    assert caller.certificate is not None
    plane.now_s = caller.certificate.not_after_s + 1
    with pytest.raises(RpcError, match="expired"):
        plane.directory.recheck(caller)
    plane.now_s = 0.0
    plane.authority.roots.introduce()
    plane.authority.roots.switch()
    plane.directory.recheck(caller)
    plane.authority.roots.finish()
    with pytest.raises(RpcError, match="was replaced"):
        plane.directory.recheck(caller)
    plane.directory.recheck(plane.caller())


def test_live_connections_are_checked_periodically(plane: ControlPlane) -> None:
    rechecks: list[float] = []
    plane.certificates.start(lambda: rechecks.append(plane.reactor.seconds()))
    plane.reactor.pump([10.0, 10.0])
    plane.certificates.stop()
    assert rechecks == [10.0, 20.0]


def test_agent_that_does_not_renew_is_up_with_a_remark(plane: ControlPlane) -> None:
    peer: Any = object()
    plane.agent.peer = peer
    plane.agent.status = AgentStatus(AgentState.UP)
    plane.agent.certified_until_s = 30 * DAY_S
    plane.now_s = 22 * DAY_S
    plane.certificates.check_all()
    assert plane.agent.status == AgentStatus(AgentState.UP)
    plane.now_s = 24 * DAY_S
    plane.certificates.check_all()
    assert plane.agent.status == AgentStatus(AgentState.UP), "its renewal might be on the way"
    plane.reactor.advance(LATE_AFTER_S)
    plane.certificates.check_all()
    assert plane.agent.status.state is AgentState.UP
    assert plane.agent.status.reason == "has not renewed its certificate, which expires in 6.0 days"
    plane.agent.certified_until_s = 54 * DAY_S
    plane.certificates.check_all()
    assert plane.agent.status == AgentStatus(AgentState.UP)
    plane.agent.certified_until_s = 25 * DAY_S  # it restarted, with a bootstrap certificate
    plane.certificates.check_all()
    assert plane.agent.status == AgentStatus(AgentState.UP)


@pytest_twisted.ensureDeferred
async def test_clock_of_an_agent_that_rejects_the_daemons_certificate_is_set(plane: ControlPlane) -> None:
    set_clocks: list[str] = []

    async def set_clock(agent: Agent) -> None:
        set_clocks.append(agent.name)

    refusals = RefusalRecorder(plane.database, plane.directory, plane.reactor.seconds, set_clock)
    await refusals.note("169.254.10.2", Refusal(ControlFailure.EXPIRED, "its certificate has expired"))
    await refusals.note(
        "192.0.2.7", Refusal(ControlFailure.OUR_CERTIFICATE, "the agent rejects the daemon's certificate")
    )
    assert set_clocks == []
    await refusals.note(
        "169.254.10.2", Refusal(ControlFailure.OUR_CERTIFICATE, "the agent rejects the daemon's certificate")
    )
    assert set_clocks == ["s-1-VM"]


@pytest_twisted.ensureDeferred
async def test_refusal_becomes_the_status_of_the_vm_at_that_address(plane: ControlPlane) -> None:
    refusals = RefusalRecorder(plane.database, plane.directory, plane.reactor.seconds)
    expired = Refusal(ControlFailure.EXPIRED, "its certificate has expired")
    await refusals.note("169.254.10.2", expired)
    assert plane.agent.status.state is AgentState.ALERT
    assert plane.agent.status.reason == "was refused (expired): its certificate has expired"
    assert "reboot" in plane.agent.status.hint
    for _ in range(3):
        await refusals.note("169.254.10.2", expired)
    await refusals.note("192.0.2.7", Refusal(ControlFailure.PLAIN, "what it sends is not TLS"))
    found = await plane.database.read(events.newest, 10)
    assert [event.description for event in found if event.type == "CONTROL.REFUSED"] == [
        "refused a control connection of 192.0.2.7: not-tls: what it sends is not TLS",
        "refused a control connection of s-1-VM (169.254.10.2): expired: its certificate has expired",
    ]


@pytest_twisted.ensureDeferred
async def test_refusal_during_a_live_connection_raises_no_alert(plane: ControlPlane) -> None:
    peer: Any = object()
    plane.agent.peer, plane.agent.status = peer, AgentStatus(AgentState.UP)
    refusals = RefusalRecorder(plane.database, plane.directory, plane.reactor.seconds)
    await refusals.note("169.254.10.2", Refusal(ControlFailure.NO_CERTIFICATE, "no certificate was sent"))
    assert plane.agent.status == AgentStatus(AgentState.UP)


@pytest_twisted.ensureDeferred
async def test_repeated_refusals_are_recorded_one_at_a_time(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = RefusalRecorder(plane.database, plane.directory, plane.reactor.seconds)
    waiting: list[Deferred[None]] = []

    async def note(address: str, refusal: Refusal) -> None:
        waiting.append(Deferred())
        await waiting[-1]

    monkeypatch.setattr(refusals, "note", note)
    plain = Refusal(ControlFailure.PLAIN, "what it sends is not TLS")
    for _ in range(100):
        refusals("192.0.2.7", plain)
    assert len(waiting) == 1
    for number in range(100):
        refusals(f"198.51.100.{number}", plain)
    assert len(waiting) == MAX_CONCURRENT
    for one in list(waiting):
        one.callback(None)
    refusals("192.0.2.7", plain)
    assert len(waiting) == MAX_CONCURRENT + 1
    waiting[-1].callback(None)


@pytest_twisted.ensureDeferred
async def test_long_expired_certificates_are_deleted(plane: ControlPlane) -> None:
    from datetime import timedelta

    from systemvm.management.state.columns import now

    values = {"kind": "agent", "authority_key_id": "aa", "name": "s-1-VM", "not_before": now()}
    for serial, age in (("1", timedelta(days=31)), ("2", timedelta(days=29)), ("3", timedelta(0))):
        await plane.database.run(rows.record, serial=serial, not_after=now() - age, **values)
    assert [row.serial for row in await plane.certificates.newest()] == ["3", "2"]


def test_caller_without_a_certificate_is_not_checked(plane: ControlPlane) -> None:
    plane.certificates.check(Caller("uid:0", "operator"))
    with pytest.raises(RpcError, match="was not issued here"):
        plane.certificates.check(Caller("s-1-VM", "ssvm", PeerCertificate("1", 1.0)))

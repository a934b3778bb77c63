# SPDX-License-Identifier: Apache-2.0
"""Checks certificates of the control CA: recorded, not expired, not revoked, of a trusted CA."""

from __future__ import annotations

import time
from collections.abc import Callable

from cryptography import x509
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.management.control.agent import Agent, Remark
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.pki.control import ControlAuthority, Issued
from systemvm.management.state import certificates, events
from systemvm.management.state.certificates import Certificate
from systemvm.management.state.database import Database
from systemvm.management.state.status import AgentState
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Caller
from systemvm.rpc.tls.refusal import hint_for
from systemvm.wire.call_refusal import CallRefusal
from systemvm.wire.control_failure import ControlFailure

#: An agent renews when a third of its certificate's life is left; later than this, renewals fail.
LATE_DAYS_LEFT = 7.0
#: The certificate of a start is valid for a day and soon replaced: only a lasting one is late.
LATE_AFTER_S = 600.0
REMARK = "certificate"
#: The interval between checks of the certificates of live connections.
CHECK_INTERVAL_S = 10.0
_DAY_S = 86400.0


class AgentCertificates:
    """Guards the directory: a certificate that is refused here opens no connection and keeps none."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        directory: AgentDirectory,
        authority: ControlAuthority,
        reactor: IReactorTime,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._directory = directory
        self._authority = authority
        self._clock = clock
        self._reactor = reactor
        self._late_since_s: dict[str, float] = {}
        self._revoked = database.run_now(certificates.revoked_serials)
        self._on_record = database.run_now(certificates.live_serials)
        self._recheck: Callable[[], None] = lambda: None
        self._loop = LoopingCall(self.check_all)
        self._loop.clock = reactor

    def subscribe(self) -> None:
        """Record what the CA signs, and check the certificate of every caller of the directory."""
        self._authority.on_issued(self._record, self.recorded)
        self._directory.guard(self.check)

    def start(self, recheck: Callable[[], None]) -> None:
        """Check live connections with `recheck`, at an interval and at once after a revocation."""
        self._recheck = recheck
        self._loop.start(CHECK_INTERVAL_S, now=False)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def check_all(self) -> None:
        """Close connections with invalid certificates, and add remarks to agents that are late to renew."""
        self._recheck()
        for agent in self._directory.agents():
            if agent.peer is not None:
                self._remark_on_age(agent)

    def check(self, caller: Caller) -> None:
        """Check the certificate of a caller.

        Raises: RpcError when it is revoked, expired, unknown or of a replaced CA.
        """
        shown = caller.certificate
        if shown is None:
            return
        if shown.serial in self._revoked:
            raise RpcError.refused(
                ControlFailure.REVOKED,
                f"its certificate {shown.serial} was revoked",
                f"run systemvm system-vm reboot {caller.name} to give it a fresh one",
            )
        if shown.not_after_s < self._clock():
            raise RpcError.refused(
                ControlFailure.EXPIRED, "its certificate expired; it dials again with a newer one"
            )
        if shown.authority_key_id and shown.authority_key_id not in self._authority.roots.trusted_key_ids:
            raise RpcError.refused(
                ControlFailure.WRONG_CA, "the CA of its certificate was replaced; it dials again"
            )
        if shown.serial not in self._on_record:
            check = ControlFailure.OFF_RECORD
            raise RpcError.refused(
                check, f"its certificate {shown.serial} was not issued here", hint_for(check)
            )

    async def recorded(self, certificate: x509.Certificate) -> None:
        """Wait until a newly signed certificate is recorded.

        Raises: RpcError when it could not be written.
        """
        # after the write itself: the database has one writer
        if not await self._database.run(certificates.is_on_record, _serial(certificate)):
            raise RpcError.refused(CallRefusal.NOT_RECORDED, "certificate could not be recorded")

    async def revoke(self, serial: str, reason: str) -> Certificate:
        """Revoke a certificate and close its connections.

        Raises: NotFoundError when there is no such certificate.
        """
        revoked = await self._database.run(certificates.revoke, serial, reason)
        self._revoked.add(revoked.serial)
        self._log.warn("revoked {serial} of {name}", serial=revoked.serial, name=revoked.name)
        self._recheck()
        await self._database.run(
            events.record,
            "CA.CERTIFICATE.REVOKE",
            f"revoked the certificate {revoked.serial} of {revoked.name}: {reason}",
            level="WARN",
        )
        return revoked

    async def newest(self, name: str | None = None) -> list[Certificate]:
        return await self._database.read(certificates.newest, name=name)

    def _remark_on_age(self, agent: Agent) -> None:
        """Add a remark when an agent's newest certificate expires soon: its renewals fail."""
        until_s = agent.certified_until_s
        left_days = None if until_s is None else (until_s - self._clock()) / _DAY_S
        remark, now_s = None, self._reactor.seconds()
        if left_days is None or left_days >= LATE_DAYS_LEFT:
            self._late_since_s.pop(agent.name, None)
        elif now_s - self._late_since_s.setdefault(agent.name, now_s) >= LATE_AFTER_S:
            remark = Remark(
                f"has not renewed its certificate, which expires in {max(0.0, left_days):.1f} days",
                f"see systemvm logs {agent.name} for the reason; a reboot gives it a fresh one",
            )
        agent.remark(REMARK, remark)
        if agent.status.state is AgentState.UP:
            self._directory.set_status(agent, agent.up_status())

    def _record(self, issued: Issued) -> None:
        certificate = issued.certificate
        serial = _serial(certificate)
        self._on_record.add(serial)
        writing = Deferred.fromCoroutine(
            self._database.run(
                certificates.record,
                serial=serial,
                name=issued.name[:64],
                kind=issued.kind,
                authority_key_id=issued.authority_key_id,
                not_before=certificate.not_valid_before_utc,
                not_after=certificate.not_valid_after_utc,
            )
        )

        def failed(failure: Failure) -> None:
            self._on_record.discard(serial)  # it is invalid, now as after a restart
            self._log.failure("cannot record a certificate", failure=failure)

        writing.addErrback(failed)


def _serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"

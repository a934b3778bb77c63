# SPDX-License-Identifier: Apache-2.0
"""What operators and the API may do with certificates of the control CA, and with the CA itself."""

from __future__ import annotations

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from systemvm.management.control.ca_rotation import CaRotation, Progress, renew
from systemvm.management.control.certificates import AgentCertificates
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.pki.control import ControlAuthority
from systemvm.management.state.certificates import Certificate
from systemvm.management.state.rows import NotFoundError
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.rpc.core.method import Call, MethodTable
from systemvm.rpc.stream.peer_credentials import OPERATORS

#: How long a provisioned agent may take to come back.
RECONNECT_S = 60.0
_LOOK_S = 0.25


@frozen
class WhichCertificates:
    name: str = ""  # of a VM; empty: all


@frozen
class Revocation:
    serial: str
    reason: str = "revoked by an operator"


@frozen
class CertificateLine:
    """A certificate as `systemvm certificate list` shows it; times are ISO 8601 in UTC."""

    serial: str
    name: str
    kind: str
    not_before: str
    not_after: str
    revoked: str | None = None
    reason: str | None = None


@frozen
class CertificateList:
    certificates: list[CertificateLine]


class CertificateService:
    """The methods `certificate.*` and `ca.*`, and what CloudStack's commands for certificates call."""

    def __init__(
        self,
        clock: IReactorTime,
        directory: AgentDirectory,
        authority: ControlAuthority,
        certificates: AgentCertificates,
        rotation: CaRotation,
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._authority = authority
        self._certificates = certificates
        self._rotation = rotation

    def add_methods(self, table: MethodTable) -> None:
        for name, handler, params, result, summary in (
            (
                "certificate.list",
                self._list,
                WhichCertificates,
                CertificateList,
                "Certificates of the channel",
            ),
            ("certificate.revoke", self._revoke, Revocation, CertificateLine, "Refuse a certificate at once"),
            ("ca.rotate_control", self._rotate, None, Progress, "Replace the control CA"),
            ("ca.control", self._progress, None, Progress, "How far a replacement of the control CA is"),
        ):
            table.add(name, handler, params=params, result=result, roles=OPERATORS, summary=summary)

    @property
    def ca_pem(self) -> str:
        return self._authority.ca_pem.decode()

    async def revoke(self, serial: str, reason: str) -> Certificate:
        """NotFoundError when there is no such certificate."""
        return await self._certificates.revoke(serial, reason)

    async def provision(self, name: str, *, reconnect: bool) -> None:
        """Have an agent renew now; with `reconnect` also dial again with it, and be Up. RpcError."""
        agent = self._directory.agent(name)
        if agent is None:
            raise RpcError(NOT_CONNECTED, f"there is no system VM named {name}")
        await renew(self._directory, agent)
        if not reconnect or agent.peer is None:
            return
        old = agent.peer
        old.close("it was given a new certificate and asked to dial again")
        give_up_s = self._clock.seconds() + RECONNECT_S
        while agent.peer is old or not agent.is_up:
            if self._clock.seconds() > give_up_s:
                raise RpcError(
                    NOT_CONNECTED,
                    f"{name} has a new certificate and did not come back in {RECONNECT_S:.0f} s",
                    {"hint": agent.status.hint or f"systemvm logs {name} tells more"},
                )
            await deferLater(self._clock, _LOOK_S)

    async def _list(self, call: Call, which: WhichCertificates) -> CertificateList:
        return CertificateList([_line(row) for row in await self._certificates.newest(which.name or None)])

    async def _revoke(self, call: Call, revocation: Revocation) -> CertificateLine:
        try:
            return _line(await self.revoke(revocation.serial, revocation.reason))
        except NotFoundError as error:
            raise RpcError.refused(
                "not-found", str(error), "systemvm certificate list shows the serials"
            ) from error

    async def _rotate(self, call: Call, params: None) -> Progress:
        return self._rotation.begin()

    async def _progress(self, call: Call, params: None) -> Progress:
        return self._rotation.progress()


def _line(row: Certificate) -> CertificateLine:
    revoked = row.revoked.isoformat(timespec="seconds") if row.revoked else None
    return CertificateLine(
        serial=row.serial,
        name=row.name,
        kind=row.kind,
        not_before=row.not_before.isoformat(timespec="seconds"),
        not_after=row.not_after.isoformat(timespec="seconds"),
        revoked=revoked,
        reason=row.reason,
    )

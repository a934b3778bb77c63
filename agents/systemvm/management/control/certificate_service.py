# SPDX-License-Identifier: Apache-2.0
"""The operations on certificates of the control CA and on the CA itself, for operators and the API."""

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
from systemvm.wire.call_refusal import CallRefusal

#: The time for a provisioned agent to connect again.
RECONNECT_S = 60.0
_POLL_S = 0.25


@frozen
class CertificateFilter:
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
    """The methods `certificate.*` and `ca.*`, and the service behind CloudStack's certificate commands."""

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
                CertificateFilter,
                CertificateList,
                "List the certificates of the channel",
            ),
            ("certificate.revoke", self._revoke, Revocation, CertificateLine, "Revoke a certificate at once"),
            ("ca.rotate_control", self._rotate, None, Progress, "Replace the control CA"),
            (
                "ca.control",
                self._progress,
                None,
                Progress,
                "Return the progress of a replacement of the control CA",
            ),
        ):
            table.add(name, handler, params=params, result=result, roles=OPERATORS, summary=summary)

    @property
    def ca_pem(self) -> str:
        return self._authority.ca_pem.decode()

    async def revoke(self, serial: str, reason: str) -> Certificate:
        """Revoke a certificate.

        Raises: NotFoundError when there is no such certificate.
        """
        return await self._certificates.revoke(serial, reason)

    async def provision(self, name: str, *, reconnect: bool) -> None:
        """Have an agent renew now; with `reconnect` wait until it is Up with the new certificate.

        Raises: RpcError when it does not renew or does not connect again.
        """
        agent = self._directory.agent(name)
        if agent is None:
            raise RpcError(NOT_CONNECTED, f"there is no system VM named {name}")
        await renew(self._directory, agent)
        if not reconnect or agent.peer is None:
            return
        old = agent.peer
        old.close("the agent connects again with its new certificate")
        give_up_s = self._clock.seconds() + RECONNECT_S
        while agent.peer is old or not agent.is_up:
            if self._clock.seconds() > give_up_s:
                raise RpcError(
                    NOT_CONNECTED,
                    f"{name} has a new certificate, but did not connect again within {RECONNECT_S:.0f} s",
                    {"hint": agent.status.hint or f"see systemvm logs {name}"},
                )
            await deferLater(self._clock, _POLL_S)

    async def _list(self, call: Call, which: CertificateFilter) -> CertificateList:
        return CertificateList([_line(row) for row in await self._certificates.newest(which.name or None)])

    async def _revoke(self, call: Call, revocation: Revocation) -> CertificateLine:
        try:
            return _line(await self.revoke(revocation.serial, revocation.reason))
        except NotFoundError as error:
            raise RpcError.refused(
                CallRefusal.NOT_FOUND, str(error), "see systemvm certificate list for the serials"
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

# SPDX-License-Identifier: Apache-2.0
"""Takes, hands out and removes certificates of the public side.

An upload is stored only after its checks. When a system VM still refuses it, the one before is used again.
Keys are sealed in the database; they are in no argument of a job, no answer and no log.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from attrs import field, frozen
from cryptography import x509
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from systemvm.management.configurations.public_names import domain_name
from systemvm.management.configurations.setting import SettingError
from systemvm.management.pki.seal import Seal
from systemvm.management.public_certificates.chain import (
    CheckedCertificate,
    check,
    check_domain,
    check_part,
    covers,
)
from systemvm.management.public_certificates.errors import (
    NoPublicCertificateError,
    NotTakenError,
    PublicCertificateError,
)
from systemvm.management.public_certificates.parsing import read_certificates
from systemvm.management.public_certificates.sites import PublicSites
from systemvm.management.state import columns, events, public_certificates
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.public_certificates import PublicCertificateRow, Source

UPLOADED = "UPLOAD.CUSTOM.CERTIFICATE"
REMOVED = "DELETE.CUSTOM.CERTIFICATE"

#: Sends every system VM that is Up its certificate; returns which of them refused it, and why.
Sender = Callable[[], Awaitable[list[str]]]


@frozen
class Upload:
    """What an operator sends: a certificate with its key, or a part of a chain with a name and a number."""

    certificate_pem: str
    domain_suffix: str
    key_pem: str | None = field(default=None, repr=False)
    name: str | None = None
    sequence: int | None = None


@frozen
class Stored:
    """A certificate that is stored, and the one that it replaces."""

    row: PublicCertificateRow
    before_id: int | None


class PublicCertificates:
    """The certificates of all zones; `senders` is filled when the other parts are made."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        seal: Seal,
        sites: PublicSites,
        roots: Callable[[], list[x509.Certificate]] | None = None,
        now: Callable[[], datetime] = columns.now,
    ) -> None:
        self.sites = sites
        self.senders: list[Sender] = []
        self._database = database
        self._seal = seal
        self._roots = roots or system_roots
        self._now = now

    async def store(self, upload: Upload, request_id: str) -> Stored:
        """Check what an operator sends, and store it.

        Raises: PublicCertificateError that says what is wrong with it.
        """
        try:
            suffix = domain_name(upload.domain_suffix.strip().removeprefix("*."))
        except SettingError as wrong:
            raise PublicCertificateError(f"domainsuffix: {wrong.message}", parameter="domainsuffix") from None
        if upload.key_pem is None:
            return await self._store_part(upload, suffix)
        if upload.name is not None:
            raise PublicCertificateError(
                "name is only for parts of the chain",
                "omit name for the certificate that has a private key",
                parameter="name",
            )
        known = await self._database.read(public_certificates.parts, suffix)
        parts = [each for row in known for each in read_certificates(row.pem, f"part {row.name}")]
        checked = check(upload.certificate_pem, upload.key_pem, parts, self._roots(), self._now())
        check_domain(checked.names, suffix)
        self._check_settings(checked.names, suffix)
        return await self.put(checked, suffix, Source.UPLOAD, request_id)

    async def put(
        self, checked: CheckedCertificate, suffix: str, source: Source, request_id: str | None
    ) -> Stored:
        """Store a certificate that was checked, in place of that of the same domain and source."""
        sealed = self._seal.close(checked.key_pem)

        def write(connection: Connection) -> Stored:
            row, before = public_certificates.put(
                connection,
                source=source,
                domain_suffix=suffix,
                pem=checked.chain_pem,
                root_pem=checked.root_pem,
                sealed_key=sealed,
                not_after=checked.not_after,
            )
            text = (
                f"certificate of {suffix} for {', '.join(checked.names)}, valid until {_day(row.not_after)}"
            )
            _record(connection, UPLOADED, text, row.uuid, request_id)
            return Stored(row, None if before is None else before.id)

        return await self._database.run(write)

    async def spread(self, added_id: int, before_id: int | None) -> None:
        """Use a stored certificate from now on: system VMs get it without an interruption.

        Raises: NotTakenError when one of them refuses it but not the one before, which is then in use again.
        """
        refused = await self.changed()
        if refused:
            await self._database.run(public_certificates.swap, added_id, before_id)
            also_before = {_name(each) for each in await self.changed()}
            if {_name(each) for each in refused} <= also_before:
                # they refuse everything, as with a wrong clock: the others get the new one
                await self._database.run(public_certificates.swap, before_id, added_id)
                await self.changed()
                refused = []
        await self._database.run(public_certificates.forget_replaced_keys)
        if refused:
            raise NotTakenError(
                f"certificate was refused, the one before is in use: {'; '.join(refused)}",
                "correct it, or the clock of the system VM, and send it again",
            )

    def start_change(self, then: Callable[[], None] = lambda: None) -> None:
        """Do as `changed` without waiting: a system VM that hangs must not delay a setting."""
        Deferred.fromCoroutine(self._changed_logged(then))

    async def _changed_logged(self, then: Callable[[], None]) -> None:
        try:
            refusals = await self.changed()
            then()
            for refused in refusals:
                self._log.warn("certificate is refused: {refused}", refused=refused)
        except Exception:
            self._log.failure("cannot send certificates")

    async def changed(self) -> list[str]:
        """Read settings and certificates again, and send every system VM its own.

        One that is away gets it when it connects. Returns which refused it, and why.
        """
        await self._database.read(self.sites.load)
        answers = await gatherResults([Deferred.fromCoroutine(_coroutine(each())) for each in self.senders])
        return [refusal for refusals in answers for refusal in refusals]

    async def remove(self, domain_suffix: str, request_id: str) -> None:
        """Remove every certificate of a domain; the CA of this installation signs again where it can.

        Raises: NoPublicCertificateError when there is none.
        """
        suffix = domain_suffix.strip().lower().removeprefix("*.")

        def delete(connection: Connection) -> int:
            count = public_certificates.remove_domain(connection, suffix)
            if count:
                _record(connection, REMOVED, f"certificates of {suffix} are removed", None, request_id)
            return count

        if not await self._database.run(delete):
            raise NoPublicCertificateError(
                f"there is no certificate of {suffix}",
                "call listCustomCertificates for those there are",
                parameter="domainsuffix",
            )
        await self.changed()

    async def _store_part(self, upload: Upload, suffix: str) -> Stored:
        if not upload.name or upload.sequence is None:
            missing = "id" if upload.name else "name"
            raise PublicCertificateError(
                f"{missing} is missing: a part of a chain has a name and a number",
                "send id and name, or with the certificate of the server its privatekey",
                parameter=missing,
            )
        not_after = check_part(upload.certificate_pem, upload.name, self._now())

        def write(connection: Connection) -> Stored:
            row, _ = public_certificates.put(
                connection,
                source=Source.CHAIN,
                domain_suffix=suffix,
                pem=upload.certificate_pem,
                not_after=not_after,
                name=upload.name or "",
                sequence=upload.sequence,
            )
            return Stored(row, None)

        return await self._database.run(write)

    def _check_settings(self, names: Sequence[str], suffix: str) -> None:
        wanted = sorted(
            host for host in self.sites.configured() if f".{host.removeprefix('*.')}".endswith(f".{suffix}")
        )
        if wanted and not any(covers(names, host) for host in wanted):
            raise PublicCertificateError(
                f"certificate is not for {' or '.join(wanted)}, which the settings name: it is for"
                f" {', '.join(names[:10])}",
                f"have a certificate issued for {wanted[0]}, or change the setting",
            )


def _name(refusal: str) -> str:
    return refusal.partition(":")[0]


async def _coroutine(answer: Awaitable[list[str]]) -> list[str]:
    return await answer


def _record(connection: Connection, kind: str, text: str, uuid: str | None, request_id: str | None) -> None:
    events.record(
        connection, kind, text, resource_type="Certificate", resource_uuid=uuid, request_id=request_id
    )


def _day(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def system_roots() -> list[x509.Certificate]:
    """Return the roots that this host trusts, as browsers do; without the package there are none."""
    context = ssl.create_default_context()
    return [x509.load_der_x509_certificate(der) for der in context.get_ca_certs(binary_form=True)]

# SPDX-License-Identifier: Apache-2.0
"""listPublicNames and renewPublicCertificate: what browsers see at each name. Both are additions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from cryptography.hazmat.primitives.hashes import SHA256

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.public_certificates import PublicNameAnswer
from systemvm.management.api.command import (
    ApiCall,
    Command,
    ResponseShape,
    StartedJob,
    matches_keyword,
    paged,
)
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.configurations.public_names import (
    ACME_DIRECTORY,
    ACME_STORAGE_DIRECTORY,
    CONSOLE_DOMAIN,
    STORAGE_DOMAIN,
)
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.pki.public import IdentitySource
from systemvm.management.public_certificates.acme_renewal import AcmeStatus
from systemvm.management.public_certificates.chain import names_of
from systemvm.management.public_certificates.errors import NotTakenError, PublicCertificateError
from systemvm.management.public_certificates.overview import PublicName, PublicNames
from systemvm.management.public_certificates.public_service import PublicService
from systemvm.management.public_certificates.service import PublicCertificates
from systemvm.management.state.database import Database

_LIST, _RENEW = "listPublicNames", "renewPublicCertificate"
_SETTINGS = {
    PublicService.CONSOLE: (CONSOLE_DOMAIN.name, ACME_DIRECTORY.name),
    PublicService.STORAGE: (STORAGE_DOMAIN.name, ACME_STORAGE_DIRECTORY.name),
}


class AcmeOrders(Protocol):
    """Orders certificates from ACME servers (`acme_renewal.py`)."""

    def status(self, service: PublicService, zone_name: str, host: str) -> AcmeStatus | None: ...
    async def renew(self, host: str) -> None: ...


class PublicNameCommands:
    """Handlers of the two commands."""

    def __init__(
        self,
        database: Database,
        names: PublicNames,
        certificates: PublicCertificates,
        acme: AcmeOrders,
        jobs: JobRunner,
        renew_page: Callable[[], None],
    ) -> None:
        self._database = database
        self._names = names
        self._certificates = certificates
        self._acme = acme
        self._jobs = jobs
        self._renew_page = renew_page
        jobs.register(_RENEW, self._run)

    def commands(self) -> tuple[Command, ...]:
        string = ParameterType.STRING
        return (
            Command(
                _LIST,
                paged(self._list),
                "Lists the names of consoles, images and the page for browsers, and their certificates.",
                PublicNameAnswer,
                "publicname",
                ResponseShape.LIST,
                (
                    optional("service", string, "list only those of console, secondarystorage or page"),
                    optional("zoneid", ParameterType.UUID, "list only those of this zone"),
                ),
                roles=ADMIN_ONLY,
                related=(_RENEW, "listCustomCertificates", "updateConfiguration"),
            ),
            Command(
                _RENEW,
                self._renew,
                "Renews the certificate of a name now: orders one from the ACME server, signs one, or "
                "reads the operator's files again.",
                SuccessAnswer,
                "success",
                ResponseShape.ASYNC,
                (required("id", string, "which one, as listPublicNames names it"),),
                roles=ADMIN_ONLY,
                related=(_LIST,),
            ),
        )

    async def _list(self, call: ApiCall) -> list[PublicNameAnswer]:
        service, zone = call.arguments.text("service"), call.arguments.text("zoneid")
        if service is not None and service not in [each.value for each in PublicService]:
            raise parameter_error(
                "service", f"service must be console, secondarystorage or page: {service[:64]!r}"
            )
        found = await self._database.read(self._names.read)
        return [
            self._answer(name)
            for name in found
            if service in (None, name.service.value)
            and zone in (None, None if name.zone is None else name.zone.uuid)
            and matches_keyword(call.arguments, name.id)
        ]

    async def _renew(self, call: ApiCall) -> StartedJob:
        name = await self._find(call.arguments["id"])
        given = {"id": name.id}
        uuid = "" if name.zone is None else name.zone.uuid
        return await start_job(self._jobs, call, _RENEW, given, about="Certificate", uuid=uuid)

    async def _run(self, running: RunningJob) -> dict[str, Any]:
        """Renew it; a job that is resumed after a restart renews it once more, which harms nothing."""
        name = await self._find(running.job.arguments["id"])
        host = name.wanted_host or name.endpoint.host
        zone_name = "" if name.zone is None else name.zone.name
        if name.service is PublicService.PAGE:
            self._renew_page()
            problem = (await self._find(name.id)).reason
            if problem:
                raise NotTakenError(problem, "correct the files: the one before stays in use")
        elif name.wanted and self._acme.status(name.service, zone_name, host) is not None:
            await self._acme.renew(host)
        elif name.source is IdentitySource.UPLOAD:
            raise PublicCertificateError(
                f"certificate of {host} was uploaded: its issuer renews it",
                'send a newer one by "systemvm certificate public upload", or set an ACME server',
            )
        else:
            refused = await self._certificates.changed()
            if refused:
                raise NotTakenError(
                    f"certificate was refused, the one before stays in use: {'; '.join(refused)}",
                    "correct it, or the clock of the system VM",
                )
        answer: dict[str, Any] = plain(
            SuccessAnswer(success=True, displaytext=f"{host} has a new certificate")
        )
        return answer

    async def _find(self, wanted: str) -> PublicName:
        found = await self._database.read(self._names.read)
        name = next((each for each in found if each.id == wanted), None)
        if name is None:
            raise parameter_error(
                "id", f"there is no name {wanted[:256]!r}", "call listPublicNames for all of them"
            )
        return name

    def _answer(self, name: PublicName) -> PublicNameAnswer:
        leaf, zone = name.leaf, name.zone
        setting, acme_setting = _SETTINGS.get(name.service, (None, None))
        acme = None
        if zone is not None:
            acme = self._acme.status(name.service, zone.name, name.wanted_host or name.endpoint.host)
        return PublicNameAnswer(
            id=name.id,
            service=name.service.value,
            name=name.endpoint.host,
            url=name.endpoint.url,
            zoneid=None if zone is None else zone.uuid,
            zonename=None if zone is None else zone.name,
            setting=setting,
            configured=name.wanted or None,
            wantedname=name.wanted_host or None,
            systemvms=list(name.system_vms),
            state=name.validity.value,
            source=None if name.source is None else name.source.value,
            issuer=None if leaf is None else leaf.issuer.rfc4514_string(),
            names=[] if leaf is None else names_of(leaf),
            fingerprint=None if leaf is None else leaf.fingerprint(SHA256()).hex(":"),
            begins=None if leaf is None else leaf.not_valid_before_utc,
            expires=None if leaf is None or name.identity is None else name.identity.not_after,
            reason=name.reason or None,
            hint=name.hint or None,
            acmesetting=acme_setting,
            acmedirectory=None if acme is None else acme.directory_url,
            acmestate=None if acme is None else acme.state.value,
            acmereason=None if acme is None else acme.reason or None,
            acmehint=None if acme is None else acme.hint or None,
            acmenext=None if acme is None else acme.again,
        )

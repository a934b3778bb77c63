# SPDX-License-Identifier: Apache-2.0
"""uploadCustomCertificate; listing and deleting what it stored and registerAcmeAccount are additions.

CloudStack restarts console proxies and secondary storage VMs after an upload; here they go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.public_certificates import (
    CustomCertificateAnswer,
    CustomCertificateMessage,
)
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
from systemvm.management.configurations.public_names import directory_url, mail_address
from systemvm.management.configurations.setting import SettingError
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.public_certificates.acme_conversation import ExternalAccount
from systemvm.management.public_certificates.chain import covers, names_of
from systemvm.management.public_certificates.service import PublicCertificates, Upload
from systemvm.management.state import public_certificates
from systemvm.management.state.database import Database
from systemvm.management.state.public_certificates import PublicCertificateRow

_UPLOAD, _LIST, _DELETE = "uploadCustomCertificate", "listCustomCertificates", "deleteCustomCertificate"
_OBJECT = "customcertificate"
_REGISTER = "registerAcmeAccount"


class AcmeRegistrar(Protocol):
    """Registers the account of an ACME server (`acme_renewal.py`)."""

    async def register(self, directory_url: str, contact: str, external: ExternalAccount) -> str: ...


class PublicCertificateCommands:
    """Handlers of the four commands."""

    def __init__(
        self, database: Database, certificates: PublicCertificates, acme: AcmeRegistrar, jobs: JobRunner
    ) -> None:
        self._database = database
        self._acme = acme
        self._certificates = certificates
        self._jobs = jobs
        jobs.register(_UPLOAD, self._run_upload)

    def commands(self) -> tuple[Command, ...]:
        string = ParameterType.STRING
        domain = "domain of the certificate: console.example.org for *.console.example.org"
        return (
            Command(
                _UPLOAD,
                self._upload,
                "Uploads a certificate for console proxy VMs and secondary storage VMs. Parts of its chain "
                "come first, each with id and name.",
                CustomCertificateMessage,
                _OBJECT,
                ResponseShape.ASYNC,
                (
                    required("certificate", ParameterType.PEM, "the certificate as PEM, or it and its chain"),
                    required("domainsuffix", string, domain),
                    optional("privatekey", ParameterType.PEM, "its private key, PKCS#8 as PEM"),
                    optional("id", ParameterType.INTEGER, "number of a part of the chain: 1 for the root"),
                    optional("name", string, "name of a part of the chain"),
                ),
                ADMIN_ONLY,
                related=(_LIST, _DELETE),
            ),
            Command(
                _LIST,
                paged(self._list),
                "Lists the certificates that were uploaded or ordered, without their keys.",
                CustomCertificateAnswer,
                _OBJECT,
                ResponseShape.LIST,
                (optional("domainsuffix", string, "list only those of this domain"),),
                roles=ADMIN_ONLY,
                related=(_UPLOAD, _DELETE),
            ),
            Command(
                _DELETE,
                self._delete,
                "Deletes the certificates of a domain with their keys; the public CA signs again.",
                SuccessAnswer,
                shape=ResponseShape.BARE,
                parameters=(required("domainsuffix", string, domain),),
                roles=ADMIN_ONLY,
                related=(_UPLOAD, _LIST),
            ),
            Command(
                _REGISTER,
                self._register,
                "Registers the account of an ACME server that requires an external account.",
                SuccessAnswer,
                shape=ResponseShape.BARE,
                parameters=(
                    required("directoryurl", string, "URL of the server's directory"),
                    required("eabkid", string, "identifier of the external account"),
                    required("eabhmackey", string, "its HMAC key as base64url; used once, and not stored"),
                    optional("contact", string, "e-mail address for the server"),
                ),
                roles=ADMIN_ONLY,
                related=("updateConfiguration",),
            ),
        )

    async def _register(self, call: ApiCall) -> SuccessAnswer:
        arguments = call.arguments
        url = _checked(directory_url, "directoryurl", arguments["directoryurl"])
        contact = _checked(mail_address, "contact", arguments["contact"]) if "contact" in arguments else ""
        external = ExternalAccount(arguments["eabkid"], arguments["eabhmackey"])
        uri = await self._acme.register(url, contact, external)
        return SuccessAnswer(success=True, displaytext=f"the account is {uri}")

    async def _upload(self, call: ApiCall) -> StartedJob:
        arguments = call.arguments
        upload = Upload(
            arguments["certificate"],
            arguments["domainsuffix"],
            arguments.text("privatekey"),
            arguments.text("name"),
            arguments.get("id"),
        )
        stored = await self._certificates.store(upload, call.request_id)
        # the key is not among them: arguments of jobs are not sealed
        given = {"added": stored.row.id, "before": stored.before_id, "part": upload.key_pem is None}
        return await start_job(self._jobs, call, _UPLOAD, given, about="Certificate", uuid=stored.row.uuid)

    async def _run_upload(self, running: RunningJob) -> dict[str, Any]:
        given = running.job.arguments
        if given["part"]:
            text = (
                "The part of the chain has been stored; send the certificate of the server with its key next."
            )
        else:
            await self._certificates.spread(given["added"], given["before"])
            text = (
                "Certificate has been successfully updated. New connections to console proxy VMs and "
                "secondary storage VMs use it; those that are open go on."
            )
        answer: dict[str, Any] = {_OBJECT: plain(CustomCertificateMessage(message=text))}
        return answer

    async def _list(self, call: ApiCall) -> list[CustomCertificateAnswer]:
        wanted = self._certificates.sites.configured()
        found = await self._database.read(public_certificates.current)
        suffix = call.arguments.text("domainsuffix")
        return [
            _answer(row, wanted)
            for row in found
            if suffix in (None, row.domain_suffix) and matches_keyword(call.arguments, row.domain_suffix)
        ]

    async def _delete(self, call: ApiCall) -> SuccessAnswer:
        await self._certificates.remove(call.arguments["domainsuffix"], call.request_id)
        return SuccessAnswer(success=True)


def _checked(check: Callable[[str], str], parameter: str, text: str) -> str:
    try:
        return check(text)
    except SettingError as wrong:
        raise parameter_error(parameter, wrong.message) from None


def _answer(row: PublicCertificateRow, wanted: set[str]) -> CustomCertificateAnswer:
    leaf = x509.load_pem_x509_certificates(row.pem.encode())[0]
    names = names_of(leaf)
    return CustomCertificateAnswer(
        id=row.uuid,
        name=row.name,
        domainsuffix=row.domain_suffix,
        source=row.source,
        names=names,
        issuer=leaf.issuer.rfc4514_string(),
        fingerprint=leaf.fingerprint(SHA256()).hex(":"),
        created=row.created,
        expires=row.not_after,
        sequence=row.sequence,
        inuse=sorted(host for host in wanted if row.sealed_key is not None and covers(names, host)),
    )

# SPDX-License-Identifier: Apache-2.0
"""CloudStack's commands for certificates that downloads trust.

CloudStack installs them on hosts, which download directly; here SSVMs receive them with each download.
"""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.source_certificates import SourceCertificateAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.commands.template_registration import named_or_only_zone
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import ParameterType, only, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.state import template_sources, templates, zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.template_sources import SourceCertificate
from systemvm.management.templates.sources import MAX_TRUSTED_CHARACTERS

_UPLOAD = "uploadTemplateDirectDownloadCertificate"
_LIST = "listTemplateDirectDownloadCertificates"
_REVOKE = "revokeTemplateDirectDownloadCertificate"
_OBJECT = "directdownloadcertificate"
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


class SourceCertificateCommands:
    """Handlers of the three commands."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        string, identity = ParameterType.STRING, ParameterType.UUID
        hypervisor = ("hypervisor", string, "KVM")
        return (
            Command(
                _UPLOAD,
                self._upload,
                "Adds a CA that all downloads of a zone, or only that of one template, trust.",
                SourceCertificateAnswer,
                _OBJECT,
                ResponseShape.OBJECT,
                (
                    required("name", string, "alias of the certificate"),
                    required("certificate", ParameterType.PEM, "the certificate as PEM"),
                    required(*hypervisor, choices=("KVM",)),
                    optional("zoneid", identity, "UUID of its zone; the only zone by default"),
                    optional("templateid", identity, "only the download of this template or ISO trusts it"),
                ),
                roles=ADMIN_ONLY,
                related=(_LIST, _REVOKE),
            ),
            Command(
                _LIST,
                paged(self._list),
                "Lists the certificates that downloads trust besides the public CAs.",
                SourceCertificateAnswer,
                _OBJECT,
                ResponseShape.LIST,
                (
                    optional("id", identity, "list only the one with this id"),
                    optional("zoneid", identity, "list only those of this zone"),
                    only("listhosts", ParameterType.BOOLEAN, "list the hosts that have it", False),
                ),
                roles=ADMIN_ONLY,
                related=(_UPLOAD, _REVOKE),
            ),
            Command(
                _REVOKE,
                self._revoke,
                "Removes a certificate: later downloads do not trust it.",
                SuccessAnswer,
                shape=ResponseShape.BARE,
                parameters=(
                    optional("id", identity, "UUID of the certificate"),
                    optional("name", string, "alias of the certificate, instead of its id"),
                    optional(*hypervisor, choices=("KVM",)),
                    optional("zoneid", identity, "UUID of its zone, with name; the only zone by default"),
                ),
                roles=ADMIN_ONLY,
                related=(_UPLOAD, _LIST),
            ),
        )

    async def _upload(self, call: ApiCall) -> SourceCertificateAnswer:
        return await self._database.run(_add, call)

    async def _list(self, call: ApiCall) -> list[SourceCertificateAnswer]:
        return await self._database.read(_select, call)

    async def _revoke(self, call: ApiCall) -> SuccessAnswer:
        await self._database.run(_remove, call)
        return SuccessAnswer(success=True)


def _add(connection: Connection, call: ApiCall) -> SourceCertificateAnswer:
    arguments = call.arguments
    zone = named_or_only_zone(connection, arguments.text("zoneid"))
    template_id = None
    if "templateid" in arguments:
        template = templates.by_uuid(connection, arguments["templateid"])
        if template.zone_id not in (None, zone.id):
            raise parameter_error("zoneid", f"{template.name} is not in zone {zone.name}", "send its zoneid")
        template_id = template.id
    certificates = _parse(_with_markers(arguments["certificate"]))
    for each in certificates:
        if not each.not_valid_before_utc <= now() < each.not_valid_after_utc:
            raise parameter_error(
                "certificate",
                f"certificate {each.subject.rfc4514_string()} is valid only from"
                f" {each.not_valid_before_utc:%Y-%m-%d} to {each.not_valid_after_utc:%Y-%m-%d}",
                "send one that is valid today",
            )
    pem = "".join(each.public_bytes(Encoding.PEM).decode() for each in certificates)
    present = template_sources.certificates(connection, zone.id)
    if any(each.name == arguments["name"] for each in present):
        raise parameter_error(
            "name",
            f"zone {zone.name} has a certificate {arguments['name']} already",
            "revoke it, or use another name",
        )
    if sum(len(each.pem) for each in present) + len(pem) > MAX_TRUSTED_CHARACTERS:
        raise parameter_error(
            "certificate",
            f"the certificates of zone {zone.name} are too long together, the maximum is"
            f" {MAX_TRUSTED_CHARACTERS} characters",
            "revoke those that are not needed",
        )
    added = template_sources.add_certificate(
        connection,
        zone_id=zone.id,
        template_id=template_id,
        name=arguments["name"],
        hypervisor=arguments["hypervisor"],
        pem=pem,
    )
    return _answer(connection, added)


def _with_markers(text: str) -> str:
    """Return PEM: CloudStack's clients also send the base64 text alone (DirectDownloadManagerImpl)."""
    bare = "".join(text.split())
    if not _BASE64.fullmatch(bare):
        return text
    lines = "\n".join(bare[start : start + 64] for start in range(0, len(bare), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


def _parse(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise parameter_error(
            "certificate",
            "Invalid value for parameter certificate: it is not a certificate as PEM",
            "send the text from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----",
        ) from None


def _select(connection: Connection, call: ApiCall) -> list[SourceCertificateAnswer]:
    arguments = call.arguments
    zone_id = zones.zone_by_uuid(connection, arguments["zoneid"]).id if "zoneid" in arguments else None
    return [
        _answer(connection, each)
        for each in template_sources.certificates(connection, zone_id)
        if arguments.get("id", each.uuid) == each.uuid and matches_keyword(arguments, each.name)
    ]


def _remove(connection: Connection, call: ApiCall) -> None:
    arguments = call.arguments
    if "id" in arguments:
        found = template_sources.certificate_rows.by_uuid(connection, arguments["id"])
    elif "name" in arguments:
        zone = named_or_only_zone(connection, arguments.text("zoneid"))
        named = [
            each
            for each in template_sources.certificates(connection, zone.id)
            if each.name == arguments["name"]
        ]
        if not named:
            raise parameter_error(
                "name", f"zone {zone.name} has no certificate {arguments['name']}", f"call {_LIST}"
            )
        found = named[0]
    else:
        raise parameter_error(
            "id", "Unable to execute API command due to missing parameter id", f"call {_LIST}"
        )
    template_sources.revoke_certificate(connection, found.id)


def _answer(connection: Connection, row: SourceCertificate) -> SourceCertificateAnswer:
    zone = zones.zone_by_id(connection, row.zone_id)
    first = _parse(row.pem)[0]
    template = None if row.template_id is None else templates.by_id(connection, row.template_id)
    begin, end = first.not_valid_before_utc, first.not_valid_after_utc
    return SourceCertificateAnswer(
        id=row.uuid,
        alias=row.name,
        zoneid=zone.uuid,
        zonename=zone.name,
        templateid=None if template is None else template.uuid,
        version=str(first.version.value + 1),
        subject=first.subject.rfc4514_string(),
        issuer=first.issuer.rfc4514_string(),
        validity=f"From: [{begin:%Y-%m-%dT%H:%M:%S+0000}] - To: [{end:%Y-%m-%dT%H:%M:%S+0000}]",
        serialnum=str(first.serial_number),
        fingerprint=first.fingerprint(SHA256()).hex(":"),
        hypervisor=row.hypervisor,
    )

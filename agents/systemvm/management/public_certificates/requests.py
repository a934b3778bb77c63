# SPDX-License-Identifier: Apache-2.0
"""Certificates that administrators request of the public CA, for servers in the domains of its zones.

The key stays with whoever made the request. The control CA signs none of these: there a name is an identity
with rights. Names by which this cloud itself is reached are refused: whoever has a certificate for them can
stand for its consoles and its page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import cast

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from twisted.internet.threads import deferToThread

from systemvm.host.guest_services import is_domain
from systemvm.management.pki.public import PublicAuthority, general_name
from systemvm.management.public_certificates.errors import PublicCertificateError
from systemvm.management.public_certificates.parsing import check_strength
from systemvm.management.state import events
from systemvm.management.state.database import Connection, Database

MAX_NAMES = 20
#: As long as the certificates of this cloud's own names: there is no list of revoked ones.
MAX_DAYS = 90
_HOW = "create one with openssl req -new -addext subjectAltName=DNS:shop.example.test"


@frozen
class CertificateRequest:
    """What a request asks for."""

    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
    names: tuple[str, ...]  # of hosts, in lower case, each once


def read_request(pem: str, domains: Sequence[str] = ()) -> CertificateRequest:
    """Return the key and the names of a certificate signing request (RFC 2986), or `domains` in their place.

    Raises: PublicCertificateError when it is damaged, its key is weak, or it has no name of a host.
    """
    try:
        request = x509.load_pem_x509_csr(pem.encode())
        is_whole = request.is_signature_valid
        key = request.public_key()
        names = domains or _names_in(request)
    except (ValueError, TypeError) as error:
        raise PublicCertificateError(
            f"csr: it is no certificate signing request: {error}", _HOW, parameter="csr"
        ) from error
    if not is_whole:
        raise PublicCertificateError("csr: its signature is not that of its key", _HOW, parameter="csr")
    check_strength(key, "the key of csr", "csr")
    found = tuple(dict.fromkeys(name.strip().lower() for name in names))
    if not found:
        raise PublicCertificateError(
            "csr: it has no DNS name", f"name them with domain, or {_HOW}", parameter="csr"
        )
    if len(found) > MAX_NAMES:
        raise PublicCertificateError(
            f"domain: {len(found)} names, the maximum is {MAX_NAMES}",
            "send several requests",
            parameter="domain",
        )
    for name in found:
        if not is_domain(name) or isinstance(general_name(name), x509.IPAddress):
            raise PublicCertificateError(
                f"domain: {name[:64]!r} is not the name of a host",
                "write it as shop.example.test",
                parameter="domain",
            )
    return CertificateRequest(cast("ec.EllipticCurvePublicKey | rsa.RSAPublicKey", key), found)


def _names_in(request: x509.CertificateSigningRequest) -> list[str]:
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def is_reserved(name: str, hosts: set[str]) -> bool:
    """Return whether a name is one of `hosts`, or of the domain of one that begins with a star.

    >>> is_reserved("a.console.example.test", {"*.console.example.test"})
    True
    """
    return name in hosts or f"*.{name.partition('.')[2]}" in hosts


class RequestedCertificates:
    """Signs requests; `hosts` returns the names and wildcards by which this cloud is reached."""

    def __init__(
        self, database: Database, authority: PublicAuthority, hosts: Callable[[Connection], set[str]]
    ) -> None:
        self._database = database
        self._authority = authority
        self._hosts = hosts

    async def check(self, request: CertificateRequest) -> None:
        """Check that a request can be signed.

        Raises: PublicCertificateError for a name of this cloud, or one outside of the domains of its zones.
        """
        hosts = {host.lower() for host in await self._database.read(self._hosts)}
        for name in request.names:
            if not await deferToThread(self._authority.permits, name):  # it can make a new root
                raise PublicCertificateError(
                    f"domain: {name} is not within the domain of a zone",
                    "set the domain of its zone with updateZone: the public CA signs for no other",
                    parameter="domain",
                )
            if is_reserved(name, hosts):
                raise PublicCertificateError(
                    f"domain: {name} is a name of this cloud's own pages, consoles or images",
                    "choose another name; for those of the cloud see uploadCustomCertificate",
                    parameter="domain",
                )

    async def issue(self, request: CertificateRequest, days: int) -> str:
        """Return the certificate and its chain as PEM.

        Raises: PublicCertificateError as `check`.
        """
        await self.check(request)
        chain = await deferToThread(
            self._authority.sign, request.public_key, request.names, timedelta(days=days)
        )
        serial = f"{x509.load_pem_x509_certificate(chain.encode()).serial_number:x}"
        await self._database.run(
            events.record,
            "CA.CERTIFICATE.ISSUE",
            f"the public CA signed {serial} for {', '.join(request.names)}, for {days} days",
        )
        return chain

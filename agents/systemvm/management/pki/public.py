# SPDX-License-Identifier: Apache-2.0
"""The public CA: certificates of what browsers open, within the zone's own names and addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.logger import Logger

from systemvm.host.zone import ZoneConfig
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.keystore import key_to_pem, new_key
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.web.public_endpoint import WILDCARD, PublicEndpoint

LIFETIME = timedelta(days=90)
STEM = "public-ca"

#: No host's name: OpenSSL takes a common name that could be one for a DNS name, even 127.0.0.1, and holds it
#: to the root's constraints.
SUBJECT = "systemvm public endpoint"

#: Stands where a zone has no domain, or no address: without any permitted name of a kind, all are permitted.
NO_DOMAIN = "invalid"
NO_NETWORK = ipaddress.ip_network("0.0.0.0/32")


@frozen
class PublicIdentity:
    """A key and its chain, leaf first, for one origin."""

    certificate_pem: str
    private_key_pem: str = field(repr=False)

    def certificates(self) -> list[x509.Certificate]:
        """The chain, leaf first; ValueError when there is none in it."""
        return x509.load_pem_x509_certificates(self.certificate_pem.encode())


class NotPermittedError(SystemVmError):
    """An origin outside of the names that the public root is constrained to."""

    code = FailureCode.NOT_PERMITTED


class PublicAuthority:
    """Signs for advertised origins, serverAuth alone."""

    _log = Logger()

    def __init__(self, authority: CertificateAuthority) -> None:
        self.authority = authority

    @classmethod
    def open(cls, directory: Path, zones: Iterable[ZoneConfig], page: PublicEndpoint) -> PublicAuthority:
        """The root kept in `directory`; a new one at the first start, and when zones changed their names."""
        constraints = constraints_of(zones, page)
        authority = CertificateAuthority.load(directory, STEM)
        if authority is not None and _constraints_in(authority.certificate) == constraints:
            return cls(authority)
        if authority is not None:
            cls._log.warn(
                "the zones' names or addresses changed: {path} is a new root, which browsers must trust anew",
                path=str(directory / f"{STEM}.crt"),
            )
        authority = CertificateAuthority.create("systemvm public CA", constraints)
        authority.save(directory, STEM)
        return cls(authority)

    @property
    def ca_pem(self) -> bytes:
        return self.authority.certificate_pem

    def identity(
        self,
        endpoint: PublicEndpoint,
        advertised: PublicEndpoint | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
    ) -> PublicIdentity:
        """What an endpoint shows: the operator's own files, read anew each time, else a fresh one of this CA.

        `advertised` may be a wildcard of which `endpoint` is one host: its certificate is for all of them, as
        an operator's own would be.

        Raises NotPermittedError, and OSError when a file cannot be read.
        """
        if certificate_file is not None and key_file is not None:
            return PublicIdentity(certificate_file.read_text(), key_file.read_text())
        if advertised is not None and advertised.is_wildcard and advertised.host != WILDCARD:
            return self.issue(advertised.host)
        return self.issue(endpoint.host)

    def issue(self, host: str) -> PublicIdentity:
        """A fresh key and certificate for an address, a name, or all names of a domain (`*.example.test`)."""
        name = general_name(host)
        if not self._permits(name):
            raise NotPermittedError(f"the public CA may not sign for {host}: it is not a name of any zone")
        key = new_key()
        leaf = self.authority.issue(
            key.public_key(), SUBJECT, [name], ExtendedKeyUsageOID.SERVER_AUTH, LIFETIME
        )
        chain = leaf.public_bytes(Encoding.PEM) + self.ca_pem
        return PublicIdentity(chain.decode(), key_to_pem(key).decode())

    def _permits(self, name: x509.GeneralName) -> bool:
        constraints = _constraints_in(self.authority.certificate)
        permitted = constraints.permitted_subtrees if constraints is not None else None
        if isinstance(name, x509.IPAddress):
            address = name.value
            return any(
                isinstance(tree, x509.IPAddress)
                and isinstance(tree.value, IPv4Network | IPv6Network)
                and address in tree.value
                for tree in permitted or []
            )
        text = f".{name.value.removeprefix('*.')}".lower()
        return any(
            isinstance(tree, x509.DNSName) and text.endswith(f".{tree.value}".lower())
            for tree in permitted or []
        )


def general_name(host: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.lower())


def constraints_of(zones: Iterable[ZoneConfig], page: PublicEndpoint) -> x509.NameConstraints:
    """What the root may sign for: the zones' domains and public networks, and the hosts of all endpoints."""
    domains: set[str] = set()
    networks: set[IPv4Network | IPv6Network] = set()
    hosts = [page.host]
    for zone in zones:
        networks.add(zone.networks.public.cidr)
        if zone.domain:
            domains.add(zone.domain.lower())
        hosts.append(zone.console.endpoint.host)
    for host in hosts:
        name = general_name(host.removeprefix("*."))
        if isinstance(name, x509.IPAddress):
            networks.add(ipaddress.ip_network(str(name.value)))
        elif name.value != WILDCARD:  # a star alone is an address of a public network
            domains.add(name.value)
    trees: list[x509.GeneralName] = [x509.DNSName(domain) for domain in sorted(domains or {NO_DOMAIN})]
    trees += [x509.IPAddress(network) for network in sorted(networks or {NO_NETWORK}, key=str)]
    return x509.NameConstraints(permitted_subtrees=trees, excluded_subtrees=None)


def _constraints_in(certificate: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None

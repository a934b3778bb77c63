# SPDX-License-Identifier: Apache-2.0
"""The public CA: certificates for what browsers open, constrained to the zones' names and addresses."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from threading import Lock

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
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
#: The certificates of earlier roots, which have signed what is still in use.
EARLIER = "public-ca-earlier.crt"

#: Not the name of a host: OpenSSL treats a common name that looks like one, even 127.0.0.1, as a DNS name and
#: applies the root's constraints to it.
SUBJECT = "systemvm public endpoint"
REQUESTED_SUBJECT = "systemvm requested certificate"

#: Used when a zone has no domain, or no address: without a permitted name of a kind, all of them are
#: permitted.
NO_DOMAIN = "invalid"
NO_NETWORK = ipaddress.ip_network("0.0.0.0/32")


class IdentitySource(enum.Enum):
    """Where the certificate of an origin comes from."""

    OWN = "own"  # the public CA of this installation
    FILE = "file"  # certificate_file and key_file of an operator
    UPLOAD = "upload"
    ACME = "acme"


@frozen
class PublicIdentity:
    """A key and its chain, leaf first, for one origin."""

    certificate_pem: str
    private_key_pem: str = field(repr=False)
    source: IdentitySource = IdentitySource.OWN

    @classmethod
    def read(cls, certificate_file: Path, key_file: Path) -> PublicIdentity:
        """Return that of an operator's files.

        Raises: OSError when one cannot be read.
        """
        return cls(certificate_file.read_text(), key_file.read_text(), IdentitySource.FILE)

    def certificates(self) -> list[x509.Certificate]:
        """Return the chain, leaf first.

        Raises: ValueError when there is no certificate in it.
        """
        return x509.load_pem_x509_certificates(self.certificate_pem.encode())

    @property
    def not_after(self) -> datetime:
        """When the first certificate of the chain ends; ValueError as `certificates` raises."""
        return min(each.not_valid_after_utc for each in self.certificates())


class NotPermittedError(SystemVmError):
    """The public root is not allowed to sign for an origin: it is outside of its name constraints."""

    code = FailureCode.NOT_PERMITTED


class PublicAuthority:
    """Signs for advertised origins, serverAuth only."""

    log = Logger()

    def __init__(
        self,
        authority: CertificateAuthority,
        renew: Callable[[x509.GeneralName], CertificateAuthority | None] = lambda name: None,
        earlier_pem: bytes = b"",
    ) -> None:
        """`renew` returns a new root for a name if the zones have it now."""
        self.authority = authority
        self._renew = renew
        self._earlier_pem = earlier_pem
        self._renewal = Lock()  # identities are made in threads
        #: Called after a new root was made, in the thread that asked for a name.
        self.on_renewed: Callable[[], None] = lambda: None

    @classmethod
    def open(
        cls,
        directory: Path,
        zones: Iterable[ZoneConfig],
        page: PublicEndpoint,
        networks: Iterable[Sequence[IPv4Network | IPv6Network]] = (),
    ) -> PublicAuthority:
        """Load the root from `directory`; create one at the first start, or when the zones' names changed.

        `networks` has all networks of each zone that consoles and links are on. Both are read again when
        a name is asked for that is in no zone yet: the API can have added one.
        """

        def renewed(name: x509.GeneralName) -> CertificateAuthority | None:
            constraints = constraints_of(list(zones), page, list(networks))
            return _create(directory, constraints) if _is_permitted(name, constraints) else None

        constraints = constraints_of(list(zones), page, list(networks))
        authority = CertificateAuthority.load(directory, STEM)
        if authority is None or _constraints_in(authority.certificate) != constraints:
            authority = _create(directory, constraints)
        earlier = directory / EARLIER
        return cls(authority, renewed, earlier.read_bytes() if earlier.exists() else b"")

    @property
    def ca_pem(self) -> bytes:
        """The root, which browsers must trust."""
        return self.authority.certificate_pem

    @property
    def roots_pem(self) -> bytes:
        """The root, and the earlier ones: certificates that these have signed are in use until they end."""
        return self.ca_pem + self._earlier_pem

    def identity(
        self,
        endpoint: PublicEndpoint,
        advertised: PublicEndpoint | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
        also: str | None = None,
    ) -> PublicIdentity:
        """Return the identity of an endpoint: from the operator's files, else a new one of this CA.

        `advertised` can be a wildcard that `endpoint` is one host of. The certificate is then for all of
        its hosts, as an operator's own would be. One for a fixed host is for the address `also`, too, if
        the CA is allowed to sign for it.

        Raises: NotPermittedError when the CA is not allowed to sign for it, OSError when a file cannot be
        read.
        """
        if certificate_file is not None and key_file is not None:
            return PublicIdentity.read(certificate_file, key_file)
        if advertised is not None and advertised.is_wildcard and advertised.host != WILDCARD:
            return self.issue(advertised.host)
        return self.issue(endpoint.host, also)

    def issue(self, host: str, also: str | None = None) -> PublicIdentity:
        """Create a key and a certificate for an address, a name, or all names of a domain.

        Raises: NotPermittedError when the root's constraints exclude `host`.
        """
        name = general_name(host)
        self._check(host, name)
        names = [name]
        if also is not None and also != host and self._permits(general_name(also)):
            names.append(general_name(also))
        key = new_key()
        leaf = self.authority.issue(
            key.public_key(), SUBJECT, names, ExtendedKeyUsageOID.SERVER_AUTH, LIFETIME
        )
        chain = leaf.public_bytes(Encoding.PEM) + self.ca_pem
        return PublicIdentity(chain.decode(), key_to_pem(key).decode())

    def sign(
        self,
        public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        hosts: Sequence[str],
        lifetime: timedelta,
    ) -> str:
        """Return a certificate for somebody's key and these names, and its chain, as PEM.

        Raises: NotPermittedError when the root's constraints exclude one of them.
        """
        names = [general_name(host) for host in hosts]
        for host, name in zip(hosts, names, strict=True):
            self._check(host, name)
        leaf = self.authority.issue(
            public_key, REQUESTED_SUBJECT, names, ExtendedKeyUsageOID.SERVER_AUTH, lifetime
        )
        return (leaf.public_bytes(Encoding.PEM) + self.ca_pem).decode()

    def _check(self, host: str, name: x509.DNSName | x509.IPAddress) -> None:
        if not self._permits(name):
            raise NotPermittedError(
                f"public CA cannot sign for {host}: it is not within the domain or the networks of a zone"
            )

    def permits(self, host: str) -> bool:
        """Return whether the root is allowed to sign for an address, a name, or `*.` and a domain."""
        return self._permits(general_name(host))

    def _permits(self, name: x509.DNSName | x509.IPAddress) -> bool:
        if self._permits_now(name):
            return True
        with self._renewal:
            # another thread can have renewed it meanwhile
            if self._permits_now(name):
                return True
            renewed = self._renew(name)
            if renewed is None:
                return False
            self._earlier_pem = _still_valid(self.roots_pem, datetime.now(UTC))
            self.authority = renewed
        self.on_renewed()
        return True

    def _permits_now(self, name: x509.DNSName | x509.IPAddress) -> bool:
        return _is_permitted(name, _constraints_in(self.authority.certificate))


def _create(directory: Path, constraints: x509.NameConstraints) -> CertificateAuthority:
    """Create and save a root, and add the one before to the earlier ones."""
    certificate = directory / f"{STEM}.crt"
    if certificate.exists():
        earlier = directory / EARLIER
        known = earlier.read_bytes() if earlier.exists() else b""
        temporary = earlier.with_name(f".{EARLIER}.new")
        temporary.write_bytes(_still_valid(certificate.read_bytes() + known, datetime.now(UTC)))
        temporary.chmod(0o644)
        temporary.replace(earlier)
        PublicAuthority.log.warn(
            "created a new root because the zones' names or addresses changed: let browsers trust {path}",
            path=str(certificate),
        )
    authority = CertificateAuthority.create("systemvm public CA", constraints)
    authority.save(directory, STEM)
    return authority


def _still_valid(roots_pem: bytes, now: datetime) -> bytes:
    """Return the certificates that have not ended, each once."""
    found = dict.fromkeys(x509.load_pem_x509_certificates(roots_pem))
    return b"".join(each.public_bytes(Encoding.PEM) for each in found if each.not_valid_after_utc > now)


def _is_permitted(name: x509.GeneralName, constraints: x509.NameConstraints | None) -> bool:
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
        isinstance(tree, x509.DNSName) and text.endswith(f".{tree.value}".lower()) for tree in permitted or []
    )


def general_name(host: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.lower())


def constraints_of(
    zones: Iterable[ZoneConfig],
    page: PublicEndpoint,
    further: Iterable[Sequence[IPv4Network | IPv6Network]] = (),
) -> x509.NameConstraints:
    """Return what the root can sign for: the zones' domains and public networks, and all endpoints' hosts."""
    domains: set[str] = set()
    networks: set[IPv4Network | IPv6Network] = {network for of_zone in further for network in of_zone}
    hosts = [page.host]
    for zone in zones:
        networks.add(zone.networks.outside.cidr)
        if zone.domain:
            domains.add(zone.domain.lower())
        hosts += [zone.console.endpoint.host, zone.secondary_storage.endpoint.host]
    for host in hosts:
        name = general_name(host.removeprefix("*."))
        if isinstance(name, x509.IPAddress):
            networks.add(ipaddress.ip_network(str(name.value)))
        elif name.value != WILDCARD:  # a star means any address of a public network
            domains.add(name.value)
    trees: list[x509.GeneralName] = [x509.DNSName(domain) for domain in sorted(domains or {NO_DOMAIN})]
    trees += [x509.IPAddress(network) for network in sorted(networks or {NO_NETWORK}, key=str)]
    return x509.NameConstraints(permitted_subtrees=trees, excluded_subtrees=None)


def _constraints_in(certificate: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None

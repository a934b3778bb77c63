# SPDX-License-Identifier: Apache-2.0
"""The screen CA: certificates for the VNC servers and serial ports of virtual machines.

Each machine has a key and a name of its own, so that the VNC server of another machine is refused even at the
address and port of this one (CVE-2013-0335). The CA signs nothing else: a certificate of a screen admits to
no other channel.

A serial port of QEMU knows no password. It admits the one client name of its machine, and such a certificate
is made for each connection of a console proxy. QEMU reads the port's own certificate only once, so that it is
valid as long as the CA, and clients know it by its fingerprint.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from systemvm.management.pki.authority import ROOT_LIFETIME, CertificateAuthority, Now, utc_now
from systemvm.management.pki.keystore import key_to_pem, new_key

LIFETIME = timedelta(days=30)
STEM = "screen-ca"
_DOMAIN = "screen.systemvm"
_SERIAL_CLIENT_DOMAIN = "serial-client.systemvm"
#: A console proxy connects at once.
CLIENT_LIFETIME = timedelta(minutes=10)


def screen_name(vm_uuid: str) -> str:
    """Return the name in the certificate of a machine's VNC server."""
    return f"{vm_uuid.lower()}.{_DOMAIN}"


def serial_client_name(vm_uuid: str) -> str:
    """Return the name in the certificate that admits to a machine's serial port."""
    return f"{vm_uuid.lower()}.{_SERIAL_CLIENT_DOMAIN}"


@frozen
class ClientIdentity:
    """A certificate that admits to one serial port, with its key."""

    certificate_pem: bytes
    private_key_pem: bytes = field(repr=False)


@frozen
class ScreenIdentity:
    """A certificate with its key, the CA that verifies it, and when to replace it."""

    certificate_pem: bytes
    private_key_pem: bytes = field(repr=False)
    ca_pem: bytes
    renew_at: datetime

    @property
    def fingerprint(self) -> str:
        """The certificate's SHA-256 in hexadecimal."""
        return x509.load_pem_x509_certificate(self.certificate_pem).fingerprint(SHA256()).hex()


class ScreenAuthority:
    """Signs for VNC servers and serial ports, and for the clients of serial ports."""

    def __init__(self, authority: CertificateAuthority, now: Now = utc_now) -> None:
        self._authority = authority
        self.now = now

    @classmethod
    def open(cls, directory: Path, now: Now = utc_now) -> ScreenAuthority:
        """Load the root from `directory`; create it at the first start."""
        authority = CertificateAuthority.load(directory, STEM, now)
        if authority is None:
            authority = CertificateAuthority.create("systemvm screen CA", now=now)
            authority.save(directory, STEM)
        return cls(authority, now)

    @property
    def ca_pem(self) -> bytes:
        return self._authority.certificate_pem

    def issue(self, vm_uuid: str, address: str) -> ScreenIdentity:
        """Create a key and a certificate for a machine and the address that its VNC server listens on."""
        return self._issue(vm_uuid, address, LIFETIME)

    def issue_serial(self, vm_uuid: str, address: str) -> ScreenIdentity:
        """As `issue`, for the machine's serial port: the certificate need not be renewed."""
        return self._issue(vm_uuid, address, ROOT_LIFETIME)

    def issue_client(self, vm_uuid: str) -> ClientIdentity:
        """Create a key and a certificate that admits to the machine's serial port now."""
        key = new_key()
        name = serial_client_name(vm_uuid)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        certificate = self._authority.issue(
            key.public_key(), name, [x509.DNSName(name)], usage, CLIENT_LIFETIME
        )
        return ClientIdentity(certificate.public_bytes(Encoding.PEM), key_to_pem(key))

    def _issue(self, vm_uuid: str, address: str, lifetime: timedelta) -> ScreenIdentity:
        key = new_key()
        certificate = self._authority.issue(
            key.public_key(),
            vm_uuid,
            [x509.DNSName(screen_name(vm_uuid)), x509.IPAddress(ip_address(address))],
            ExtendedKeyUsageOID.SERVER_AUTH,
            lifetime,
        )
        return ScreenIdentity(
            certificate.public_bytes(Encoding.PEM),
            key_to_pem(key),
            self.ca_pem,
            self.now() + lifetime * 2 / 3,
        )

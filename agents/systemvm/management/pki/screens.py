# SPDX-License-Identifier: Apache-2.0
"""The screen CA: certificates for the VNC servers of virtual machines.

Each machine has a key and a name of its own, so that the VNC server of another machine is refused even at the
address and port of this one (CVE-2013-0335). The CA signs nothing else: a certificate of a screen admits to
no other channel.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from systemvm.management.pki.authority import CertificateAuthority, Now, utc_now
from systemvm.management.pki.keystore import key_to_pem, new_key

LIFETIME = timedelta(days=30)
STEM = "screen-ca"
_DOMAIN = "screen.systemvm"


def screen_name(vm_uuid: str) -> str:
    """Return the name in the certificate of a machine's VNC server."""
    return f"{vm_uuid.lower()}.{_DOMAIN}"


@frozen
class ScreenIdentity:
    """A certificate with its key, the CA that verifies it, and when to replace it."""

    certificate_pem: bytes
    private_key_pem: bytes = field(repr=False)
    ca_pem: bytes
    renew_at: datetime


class ScreenAuthority:
    """Signs for VNC servers, serverAuth only."""

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
        key = new_key()
        certificate = self._authority.issue(
            key.public_key(),
            vm_uuid,
            [x509.DNSName(screen_name(vm_uuid)), x509.IPAddress(ip_address(address))],
            ExtendedKeyUsageOID.SERVER_AUTH,
            LIFETIME,
        )
        return ScreenIdentity(
            certificate.public_bytes(Encoding.PEM),
            key_to_pem(key),
            self.ca_pem,
            self.now() + LIFETIME * 2 / 3,
        )

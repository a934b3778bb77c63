# SPDX-License-Identifier: Apache-2.0
"""The control CA: certificates for the channel between daemon and agents."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from systemvm.management.pki.authority import CertificateAuthority, Now, utc_now
from systemvm.management.pki.control_roots import ControlRoots, Phase
from systemvm.management.pki.keystore import key_to_pem, new_key
from systemvm.rpc.tls.identity import Identity
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.role import MANAGEMENT_SAN, Role

BOOTSTRAP_LIFETIME = timedelta(days=1)
ISSUED_LIFETIME = timedelta(days=30)


class SigningRefusedError(SystemVmError):
    """A certificate signing request that was rejected, because its sender must not have what it asks for."""

    code = FailureCode.INVALID


@frozen
class Issued:
    """A certificate that was just signed, to be recorded."""

    certificate: x509.Certificate
    name: str
    kind: str  # bootstrap | agent | daemon
    authority_key_id: str


class ControlAuthority:
    """Signs for agents (clientAuth only) and for daemons (serverAuth only)."""

    def __init__(self, authority: CertificateAuthority, roots: ControlRoots | None = None) -> None:
        self._roots = roots or ControlRoots(authority)
        self._on_issued: Callable[[Issued], None] = lambda issued: None
        self._recorded: Callable[[x509.Certificate], Awaitable[None]] = _kept_by_nobody

    @classmethod
    def open(cls, directory: Path, now: Now = utc_now) -> ControlAuthority:
        """Load the root from `directory`; create it at the first start."""
        roots = ControlRoots.open(directory, now)
        return cls(roots.current, roots)

    @property
    def authority(self) -> CertificateAuthority:
        """The root that signs."""
        return self._roots.current

    @property
    def roots(self) -> ControlRoots:
        """All roots that are trusted now, and the steps of a rotation."""
        return self._roots

    @property
    def phase(self) -> Phase:
        return self._roots.phase

    @property
    def ca_pem(self) -> bytes:
        """Every root that is trusted now as PEM, the one that signs first."""
        return self._roots.bundle_pem

    def on_issued(
        self,
        callback: Callable[[Issued], None],
        recorded: Callable[[x509.Certificate], Awaitable[None]] | None = None,
    ) -> None:
        """Call `callback` with every certificate that is signed; `recorded` waits until one is stored."""
        self._on_issued = callback
        self._recorded = recorded or _kept_by_nobody

    async def recorded(self, certificate_pem: bytes) -> None:
        """Wait until this certificate is recorded, as it must be before it is used; raise what failed."""
        await self._recorded(x509.load_pem_x509_certificate(certificate_pem))

    def bootstrap(self, name: str, role: Role) -> Identity:
        """Create a key and a certificate for one start of a system VM, valid for a day."""
        key = new_key()
        certificate = self._agent_certificate(key.public_key(), name, role, BOOTSTRAP_LIFETIME, "bootstrap")
        return Identity(key_to_pem(key), certificate.public_bytes(Encoding.PEM), self.ca_pem)

    def sign(self, csr_pem: str, name: str, role: Role) -> str:
        """Sign an agent's own key for its own name.

        Only the public key is taken from the request. All else in the certificate is from the daemon.

        Raises: SigningRefusedError when the request is malformed or asks for other names.
        """
        try:
            csr = x509.load_pem_x509_csr(csr_pem.encode())
        except ValueError as error:
            raise SigningRefusedError(
                "invalid certificate signing request: not a PKCS #10 request in PEM"
            ) from error
        if not csr.is_signature_valid:
            raise SigningRefusedError("invalid certificate signing request: it is not signed by its own key")
        key = csr.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise SigningRefusedError("invalid certificate signing request: its key is not a P-256 key")
        asked = _names_in(csr)
        if asked not in ([], [role.san(name)]):
            listed = ", ".join(asked)
            raise SigningRefusedError(
                f"certificate signing request of {name} is for {listed}; it must be for {role.san(name)} only"
            )
        certificate = self._agent_certificate(key, name, role, ISSUED_LIFETIME, "agent")
        return certificate.public_bytes(Encoding.PEM).decode()

    def daemon_identity(self, host_name: str) -> Identity:
        """Create a new identity for this daemon's listener."""
        key = new_key()
        host = re.sub(r"[^a-z0-9.-]+", "-", host_name.lower()).strip("-.") or "host"
        certificate = self.authority.issue(
            key.public_key(),
            host_name,
            [x509.DNSName(f"{host}.{MANAGEMENT_SAN}"), x509.DNSName(MANAGEMENT_SAN)],
            ExtendedKeyUsageOID.SERVER_AUTH,
            ISSUED_LIFETIME,
        )
        self._on_issued(Issued(certificate, host_name, "daemon", self.authority.key_id))
        return Identity(key_to_pem(key), certificate.public_bytes(Encoding.PEM), self.ca_pem)

    def _agent_certificate(
        self, key: ec.EllipticCurvePublicKey, name: str, role: Role, lifetime: timedelta, kind: str
    ) -> x509.Certificate:
        certificate = self.authority.issue(
            key, name, [x509.DNSName(role.san(name))], ExtendedKeyUsageOID.CLIENT_AUTH, lifetime
        )
        self._on_issued(Issued(certificate, name, kind, self.authority.key_id))
        return certificate


async def _kept_by_nobody(certificate: x509.Certificate) -> None:
    """Record nothing, for tests of the authority without a database."""


class DaemonIdentity:
    """The listener's identity: renewed when a third of its life is left, and when the roots change."""

    def __init__(self, authority: ControlAuthority, host_name: str, now: Now = utc_now) -> None:
        self._authority = authority
        self._host_name = host_name
        self._now = now
        self._identity: Identity | None = None
        self._renew_at = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> Identity:
        now = self._now()
        identity = self._identity
        if identity is None or now >= self._renew_at or identity.ca_pem != self._authority.ca_pem:
            identity = self._identity = self._authority.daemon_identity(self._host_name)
            self._renew_at = now + ISSUED_LIFETIME * 2 / 3
        return identity


def _names_in(csr: x509.CertificateSigningRequest) -> list[str]:
    """Return every name that a request asks for, of any type, in lower case."""
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value).lower() for name in names]

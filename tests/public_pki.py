# SPDX-License-Identifier: Apache-2.0
"""Chains for tests of public certificates: a root, an intermediate and servers, with any fault wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = datetime.now(UTC).replace(microsecond=0)
DOMAIN = "console.example.test"
WILDCARD = f"*.{DOMAIN}"

Build = Callable[[x509.CertificateBuilder], x509.CertificateBuilder]


@frozen
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return self.key.private_bytes(*form).decode()


def issue(
    common_name: str,
    issuer: Issued | None,
    names: Sequence[str] = (),
    *,
    is_ca: bool = False,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    starts: datetime = NOW - timedelta(days=1),
    ends: datetime = NOW + timedelta(days=90),
    build: Build = lambda builder: builder,
) -> Issued:
    """Issue a certificate; without an issuer it signs itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(starts)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
    signer = issuer.key if issuer else key
    return Issued(build(builder).sign(signer, hashes.SHA256()), key)


ROOT = issue("test root", None, is_ca=True)
INTERMEDIATE = issue("test intermediate", ROOT, is_ca=True)


def server(*names: str, **how: object) -> Issued:
    return issue("server", INTERMEDIATE, names or (WILDCARD,), **how)  # type: ignore[arg-type]

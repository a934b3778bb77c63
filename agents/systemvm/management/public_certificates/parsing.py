# SPDX-License-Identifier: Apache-2.0
"""Certificates and a key from PEM, and what is strong enough for browsers."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from systemvm.management.public_certificates.errors import PublicCertificateError

PublicCertificateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

MIN_RSA_BITS = 2048
#: Of a longer key each handshake costs more than 10 times the CPU of a P-256 key's.
MAX_RSA_BITS = 8192
#: Chromium refuses P-521, and no browser takes others.
CURVES = (ec.SECP256R1.name, ec.SECP384R1.name)
WEAK_HASHES = ("md5", "sha1")
_NEW_KEY = "create a P-256 key, or an RSA key of 2048 bits or more, and have a certificate issued for it"


def subject_of(certificate: x509.Certificate) -> str:
    """Return the name by which messages mention a certificate."""
    return certificate.subject.rfc4514_string() or f"number {certificate.serial_number:x}"


def read_certificates(pem: str, what: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM text in its order.

    Raises: PublicCertificateError when there is none, or one is damaged.
    """
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise PublicCertificateError(
            f"{what} is not a certificate in PEM",
            "send the text from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----",
        ) from None


def read_key(pem: str) -> PublicCertificateKey:
    """Return a private key that browsers' TLS can use.

    Raises: PublicCertificateError when it is encrypted, damaged, of another kind or too weak.
    """
    try:
        key = load_pem_private_key(pem.encode(), None)
    except TypeError:
        raise PublicCertificateError(
            "private key is encrypted",
            'decrypt it by "openssl pkcs8 -topk8 -nocrypt -in KEY", and send that',
            parameter="privatekey",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise PublicCertificateError(
            "private key is not a PKCS#8 key in PEM",
            "send the text from -----BEGIN PRIVATE KEY----- to -----END PRIVATE KEY-----",
            parameter="privatekey",
        ) from None
    if not isinstance(key, PublicCertificateKey):
        raise PublicCertificateError(
            "private key is neither an RSA key nor one of an elliptic curve", _NEW_KEY, parameter="privatekey"
        )
    check_strength(key.public_key(), "private key", "privatekey")
    return key


def key_as_pkcs8(key: PublicCertificateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def belongs_to(certificate: x509.Certificate, key: PublicCertificateKey) -> bool:
    """Return whether the certificate is for this key."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)


def check_strength(key: object, what: str, parameter: str = "certificate") -> None:
    """Check kind and length of a public key.

    Raises: PublicCertificateError when browsers refuse it.
    """
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise PublicCertificateError(
                f"{what} is an RSA key of {key.key_size} bits, it must have {MIN_RSA_BITS} to {MAX_RSA_BITS}",
                _NEW_KEY,
                parameter=parameter,
            )
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in CURVES:
            raise PublicCertificateError(
                f"{what} is on the curve {key.curve.name}, it must be one of {', '.join(CURVES)}",
                _NEW_KEY,
                parameter=parameter,
            )
    else:
        raise PublicCertificateError(
            f"{what} is neither an RSA key nor one of an elliptic curve", _NEW_KEY, parameter=parameter
        )


def check_signature_hash(certificate: x509.Certificate) -> None:
    """Check by which hash a certificate was signed.

    Raises: PublicCertificateError when browsers refuse it.
    """
    try:
        used = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        used = None
    if used is None or used.name in WEAK_HASHES:
        name = "an unknown algorithm" if used is None else used.name.upper()
        raise PublicCertificateError(
            f"certificate {subject_of(certificate)} is signed by {name}",
            "have it issued again with SHA-256",
        )

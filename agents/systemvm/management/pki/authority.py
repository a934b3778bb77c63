# SPDX-License-Identifier: Apache-2.0
"""A certificate authority: a P-256 root certificate and its key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from systemvm.management.pki.keystore import key_from_pem, key_to_pem, new_key, read_secret, write_secret

#: A guest's clock can run behind its host's, and a certificate must already be valid there.
BACKDATE = timedelta(hours=1)
ROOT_LIFETIME = timedelta(days=3650)

Now = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


@frozen
class CertificateAuthority:
    """A root certificate with its key."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate
    now: Now = field(default=utc_now, repr=False, eq=False)

    @property
    def key_id(self) -> str:
        """The subject key identifier in hexadecimal, by which certificates name their issuer."""
        return key_id_of(self.certificate)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @classmethod
    def create(
        cls, common_name: str, constraints: x509.NameConstraints | None = None, now: Now = utc_now
    ) -> CertificateAuthority:
        key = new_key()
        name = _name(common_name)
        start = now() - BACKDATE
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + ROOT_LIFETIME)
            # No intermediate CA: it signs only end-entity certificates.
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if constraints is not None:
            builder = builder.add_extension(constraints, critical=True)
        return cls(key, builder.sign(key, hashes.SHA256()), now)

    @classmethod
    def load(cls, directory: Path, stem: str, now: Now = utc_now) -> CertificateAuthority | None:
        """Load the root that is stored under this name; None when there is none yet."""
        path = directory / f"{stem}.key"
        if not path.exists():
            return None
        key = key_from_pem(read_secret(path), path)
        return cls(key, x509.load_pem_x509_certificate((directory / f"{stem}.crt").read_bytes()), now)

    def save(self, directory: Path, stem: str) -> None:
        # The certificate first: `load` takes a key for the sign of a complete root.
        certificate = directory / f"{stem}.crt"
        certificate.write_bytes(self.certificate_pem)
        certificate.chmod(0o644)
        write_secret(directory / f"{stem}.key", key_to_pem(self.key))

    def issue(
        self,
        public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        common_name: str,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        lifetime: timedelta,
    ) -> x509.Certificate:
        """Sign a certificate for these names and this use only, which ends no later than the root's."""
        start = self.now() - BACKDATE
        end = min(start + BACKDATE + lifetime, self.certificate.not_valid_after_utc)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .sign(self.key, hashes.SHA256())
        )


def key_id_of(certificate: x509.Certificate) -> str:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return extension.value.digest.hex()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )

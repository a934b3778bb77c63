# SPDX-License-Identifier: Apache-2.0
"""A certificate authority for tests of the control channel, which also issues what must be refused."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from systemvm.rpc.tls.identity import Identity

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
DAY = datetime.timedelta(days=1)
HOUR = datetime.timedelta(hours=1)


class TestAuthority:
    """A CA that no other instance trusts."""

    __test__ = False

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "control CA of a test")])
        now = datetime.datetime.now(datetime.UTC)
        self.certificate = (
            self._builder(self._name, self._key.public_key(), now - DAY, now + DAY)
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        names: Sequence[str],
        usages: Sequence[x509.ObjectIdentifier],
        *,
        begins: datetime.timedelta = -HOUR,
        ends: datetime.timedelta = DAY,
        trusts: TestAuthority | None = None,
    ) -> Identity:
        """Issue an identity with these DNS names and key usages, valid from `begins` to `ends` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        builder = self._builder(x509.Name([]), key.public_key(), now + begins, now + ends)
        if names:
            san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(san, critical=True)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = certificate.public_bytes(serialization.Encoding.PEM)
        return Identity(private, public, (trusts or self).pem)

    def agent(self, name: str = "s-1-vm", role: str = "ssvm") -> Identity:
        return self.issue([f"{name}.{role}.systemvm"], [CLIENT])

    def daemon(self, host: str = "host-1") -> Identity:
        return self.issue([f"{host}.management.systemvm", "management.systemvm"], [SERVER])

    def _builder(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        begins: datetime.datetime,
        ends: datetime.datetime,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )

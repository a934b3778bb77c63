# SPDX-License-Identifier: Apache-2.0
"""The agent's TLS identity: first the bootstrap identity of this boot, then a key of its own in /run."""

from __future__ import annotations

import time
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from twisted.logger import Logger

from systemvm.guest import files
from systemvm.guest.paths import GuestPaths
from systemvm.rpc.core.call import Connection
from systemvm.rpc.tls.identity import Identity
from systemvm.wire.agent import SIGN, SignedCertificate, SigningRequest
from systemvm.wire.role import Role

RENEW_AT_LEFT = 1 / 3  # of a certificate's life
SIGN_DEADLINE_S = 60.0


class AgentIdentity:
    """Returns the identity for the next connection, and has the daemon sign newer ones."""

    def __init__(
        self, paths: GuestPaths, name: str, role: Role, now_s: Callable[[], float] = time.time
    ) -> None:
        self._log = Logger(namespace="systemvm.guest.identity")
        self._paths = paths
        self._name = name
        self._san = role.san(name)
        self._now_s = now_s
        self._own = self._read_own()

    def current(self) -> Identity:
        """Return the agent's own identity, or the bootstrap identity when it is valid for longer.

        The local clock is not considered: when it is wrong, the daemon still decides what is valid.

        Raises: ValueError when there is neither.
        """
        if self._own is None:
            return self._bootstrap()
        try:
            bootstrap = self._bootstrap()
        except ValueError:
            return self._own
        ends = [_certificate(identity).not_valid_after_utc for identity in (self._own, bootstrap)]
        return self._own if ends[0] >= ends[1] else bootstrap

    def due(self) -> bool:
        """Return whether a certificate is to be requested: there is none, or a third of its life is left."""
        return self._own is None or self._left(self._own) <= RENEW_AT_LEFT

    async def renew(self, peer: Connection) -> None:
        """Have a new key signed; it is used for the next connection.

        Raises: RpcError when the daemon refuses, ValueError when the certificate is wrong; the identity is
        then unchanged.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)]))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(self._san)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        csr_pem = request.public_bytes(Encoding.PEM).decode()
        signed: SignedCertificate = await peer.call(
            SIGN, SigningRequest(csr_pem), result=SignedCertificate, deadline_s=SIGN_DEADLINE_S
        )
        identity = Identity(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            signed.certificate_pem.encode(),
            signed.ca_pem.encode(),
        )
        self._accept(identity, key.public_key())
        self._own = identity
        self._store(identity)
        self._log.info(
            "Certificate signed for a new key, serial {serial}", serial=_certificate(identity).serial_number
        )

    def _accept(self, identity: Identity, public: ec.EllipticCurvePublicKey) -> None:
        """Check that the certificate is for our key and name, and valid now.

        Raises: ValueError when it is not.
        """
        certificate = _certificate(identity)
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if certificate.public_key().public_bytes(*form) != public.public_bytes(*form):
            raise ValueError("signed certificate is for another key")
        if _names(certificate) != [self._san]:
            raise ValueError(f"signed certificate is for {_names(certificate)}, expected {self._san}")
        if self._left(identity) <= 0:
            raise ValueError("signed certificate is not valid now; check the VM's clock")

    def _left(self, identity: Identity) -> float:
        """Return the part of the certificate's life that is left: 1 at its begin, 0 or less outside."""
        certificate = _certificate(identity)
        begin_s = certificate.not_valid_before_utc.timestamp()
        end_s = certificate.not_valid_after_utc.timestamp()
        now_s = self._now_s()
        return (end_s - now_s) / (end_s - begin_s) if now_s >= begin_s else 0.0

    def _bootstrap(self) -> Identity:
        for path in (self._paths.identity_credential, self._paths.bootstrap_identity):
            if path is not None and path.is_file():
                return Identity.from_pem_bundle(path.read_bytes())
        raise ValueError(
            "identity is missing: neither the systemd credential systemvm.identity nor the boot arguments "
            "contain one"
        )

    def _read_own(self) -> Identity | None:
        """Read the identity that an earlier run in the same boot left in /run."""
        try:
            identity = Identity.from_pem_bundle(self._paths.own_identity.read_bytes())
            if _names(_certificate(identity)) != [self._san]:
                return None
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._log.warn("Cannot use {path}: {error}", path=str(self._paths.own_identity), error=str(error))
            return None
        return identity

    def _store(self, identity: Identity) -> None:
        try:
            files.write(self._paths.own_identity, identity.to_pem_bundle(), 0o600)
            # the bootstrap identity is no longer needed
            self._paths.bootstrap_identity.unlink(missing_ok=True)
        except OSError as error:
            self._log.warn("Cannot store the new identity, it is only in memory: {error}", error=str(error))


def _certificate(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.certificate_pem)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]

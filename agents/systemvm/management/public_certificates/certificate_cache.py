# SPDX-License-Identifier: Apache-2.0
"""The certificates in use, in memory: which one is for a host now."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen
from cryptography import x509

from systemvm.management.pki.public import IdentitySource, PublicIdentity
from systemvm.management.pki.seal import Seal
from systemvm.management.public_certificates.chain import covers, names_of
from systemvm.management.state import public_certificates
from systemvm.management.state.database import Connection
from systemvm.management.state.public_certificates import PublicCertificateRow


@frozen
class CachedCertificate:
    """A row with the names that its certificate is for."""

    row: PublicCertificateRow
    names: tuple[str, ...]
    not_before: datetime

    def is_valid(self, now: datetime) -> bool:
        return self.not_before <= now < self.row.not_after


class CertificateCache:
    """Read by several threads; a change replaces the whole content at once."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._content: tuple[CachedCertificate, ...] = ()

    def load(self, connection: Connection) -> None:
        """Read the rows again."""
        self._content = tuple(_cached(row) for row in public_certificates.servers(connection))

    def all(self) -> tuple[CachedCertificate, ...]:
        """Return those in use, the newest first."""
        return self._content

    def covering(self, host: str, now: datetime) -> CachedCertificate | None:
        """Return the newest valid one for a host, or for all hosts of `*.domain`."""
        fitting = (each for each in self._content if covers(each.names, host) and each.is_valid(now))
        return next(fitting, None)

    def identity(self, cached: CachedCertificate) -> PublicIdentity:
        """Return chain and key, as a system VM gets them.

        Raises: KeystoreError when the key was sealed with another key than the daemon's.
        """
        key = self._seal.open(cached.row.sealed_key or b"")
        return PublicIdentity(cached.row.pem, key, IdentitySource(cached.row.source))


def _cached(row: PublicCertificateRow) -> CachedCertificate:
    leaf = x509.load_pem_x509_certificates(row.pem.encode())[0]
    return CachedCertificate(row, tuple(names_of(leaf)), leaf.not_valid_before_utc)

# SPDX-License-Identifier: Apache-2.0
"""The control CA's roots on disk, and the three steps of a rotation, during which both are trusted.

`control-ca.*` signs. During a rotation there is also `control-ca-next.*` (trusted, does not sign yet) or,
after the switch, `control-ca-previous.crt` (trusted, its key is deleted). The phase follows from the files
only, so that a daemon that was killed continues where it was.
"""

from __future__ import annotations

import enum
import hashlib
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from systemvm.management.pki.authority import CertificateAuthority, Now, key_id_of, utc_now
from systemvm.management.pki.keystore import key_from_pem, read_secret

STEM = "control-ca"
NEXT = "control-ca-next"
PREVIOUS = "control-ca-previous"


class Phase(enum.Enum):
    """The phase of a rotation of the control CA."""

    STEADY = "steady"  # one root
    INTRODUCED = "introduced"  # the next one is trusted, the current one signs
    SWITCHED = "switched"  # the next one became the current one; the previous one is still trusted

    @property
    def description(self) -> str:
        return {
            Phase.STEADY: "no rotation is under way: one control CA is trusted and signs",
            Phase.INTRODUCED: "agents are learning to trust the next control CA",
            Phase.SWITCHED: "the new control CA signs; agents are getting new certificates",
        }[self]


class ControlRoots:
    """The root that signs, and the other roots that are trusted."""

    def __init__(self, current: CertificateAuthority, directory: Path | None = None) -> None:
        self.current = current
        self._directory = directory
        self._next: CertificateAuthority | None = None
        self._previous: x509.Certificate | None = None

    @classmethod
    def open(cls, directory: Path, now: Now = utc_now) -> ControlRoots:
        """Load the roots from `directory`; create the first one when there is none."""
        _finish_interrupted_switch(directory)
        current = CertificateAuthority.load(directory, STEM, now)
        if current is None:
            current = CertificateAuthority.create("systemvm control CA", now=now)
            current.save(directory, STEM)
        roots = cls(current, directory)
        roots._next = CertificateAuthority.load(directory, NEXT, now)
        previous = directory / f"{PREVIOUS}.crt"
        if roots._next is None and previous.exists():
            roots._previous = x509.load_pem_x509_certificate(previous.read_bytes())
        return roots

    @property
    def phase(self) -> Phase:
        if self._next is not None:
            return Phase.INTRODUCED
        return Phase.STEADY if self._previous is None else Phase.SWITCHED

    @property
    def trusted(self) -> list[x509.Certificate]:
        """The certificates of all trusted roots, the one that signs first."""
        others = [self._next.certificate if self._next is not None else self._previous]
        return [self.current.certificate, *(other for other in others if other is not None)]

    @property
    def trusted_key_ids(self) -> set[str]:
        return {key_id_of(certificate) for certificate in self.trusted}

    @property
    def bundle_pem(self) -> bytes:
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.trusted)

    @property
    def bundle_id(self) -> str:
        """A digest of the trusted roots, which changes with every step of a rotation."""
        return hashlib.sha256(self.bundle_pem).hexdigest()

    def introduce(self) -> None:
        """Create the next root; do nothing when a rotation is under way."""
        if self.phase is not Phase.STEADY:
            return
        now = self.current.now
        made = CertificateAuthority.create(f"systemvm control CA of {now():%Y-%m-%d %H:%M:%S}", now=now)
        if self._directory is not None:
            made.save(self._directory, NEXT)
        self._next = made

    def switch(self) -> None:
        """Let the next root sign. The current one is only trusted from then on, and its key is deleted."""
        if self._next is None:
            return
        if self._directory is not None:
            previous = self._directory / f"{PREVIOUS}.crt"
            previous.write_bytes(self.current.certificate_pem)
            for ending in ("key", "crt"):  # `_finish_interrupted_switch` completes what ends between the two
                (self._directory / f"{NEXT}.{ending}").replace(self._directory / f"{STEM}.{ending}")
        self._previous, self.current, self._next = self.current.certificate, self._next, None

    def finish(self) -> None:
        """Trust only the new root."""
        if self.phase is not Phase.SWITCHED:
            return
        if self._directory is not None:
            (self._directory / f"{PREVIOUS}.crt").unlink(missing_ok=True)
        self._previous = None


def _finish_interrupted_switch(directory: Path) -> None:
    """Move the certificate, if a switch was interrupted after it had moved the key."""
    key_path, waiting = directory / f"{STEM}.key", directory / f"{NEXT}.crt"
    if not key_path.exists() or not waiting.exists() or (directory / f"{NEXT}.key").exists():
        return
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = key_from_pem(read_secret(key_path), key_path).public_key().public_bytes(*form)
    certificate = x509.load_pem_x509_certificate(waiting.read_bytes())
    if certificate.public_key().public_bytes(*form) == key:
        waiting.replace(directory / f"{STEM}.crt")
    else:
        waiting.unlink()  # of a root whose key was not written

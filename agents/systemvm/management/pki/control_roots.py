# SPDX-License-Identifier: Apache-2.0
"""The control CA's roots on disk, and the three steps from one root to the next with both trusted meanwhile.

`control-ca.*` signs. While it is being replaced there is also `control-ca-next.*` (trusted, signs nothing
yet) or, after the switch, `control-ca-previous.crt` (trusted, its key is gone). The files alone tell the
phase, so that a daemon that was killed in between goes on where it was.
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
    """How far the replacement of the control CA is."""

    STEADY = "steady"  # one root
    INTRODUCED = "introduced"  # the next one is trusted, the current one signs
    SWITCHED = "switched"  # the next one became the current one; the previous one is trusted still

    @property
    def description(self) -> str:
        return {
            Phase.STEADY: "one control CA is trusted and signs",
            Phase.INTRODUCED: "the next control CA is being made known to all agents",
            Phase.SWITCHED: "the new control CA signs; agents are getting certificates of it",
        }[self]


class ControlRoots:
    """The root that signs, and those that are trusted beside it."""

    def __init__(self, current: CertificateAuthority, directory: Path | None = None) -> None:
        self.current = current
        self._directory = directory
        self._next: CertificateAuthority | None = None
        self._previous: x509.Certificate | None = None

    @classmethod
    def open(cls, directory: Path, now: Now = utc_now) -> ControlRoots:
        """What is kept in `directory`; a first root is made when there is none."""
        _end_a_broken_switch(directory)
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
        """The one that signs first."""
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
        """Changes with every step: who was given this one knows the roots as they are."""
        return hashlib.sha256(self.bundle_pem).hexdigest()

    def introduce(self) -> None:
        """Make the next root; nothing when a replacement is under way."""
        if self.phase is not Phase.STEADY:
            return
        now = self.current.now
        made = CertificateAuthority.create(f"systemvm control CA of {now():%Y-%m-%d %H:%M:%S}", now=now)
        if self._directory is not None:
            made.save(self._directory, NEXT)
        self._next = made

    def switch(self) -> None:
        """Let the next root sign; the current one is only trusted from here on, and its key is forgotten."""
        if self._next is None:
            return
        if self._directory is not None:
            previous = self._directory / f"{PREVIOUS}.crt"
            previous.write_bytes(self.current.certificate_pem)
            for ending in ("key", "crt"):  # `_end_a_broken_switch` ends what is cut off between the two
                (self._directory / f"{NEXT}.{ending}").replace(self._directory / f"{STEM}.{ending}")
        self._previous, self.current, self._next = self.current.certificate, self._next, None

    def finish(self) -> None:
        """Trust the new root alone."""
        if self.phase is not Phase.SWITCHED:
            return
        if self._directory is not None:
            (self._directory / f"{PREVIOUS}.crt").unlink(missing_ok=True)
        self._previous = None


def _end_a_broken_switch(directory: Path) -> None:
    """The key was moved and its certificate was not: move it."""
    key_path, waiting = directory / f"{STEM}.key", directory / f"{NEXT}.crt"
    if not key_path.exists() or not waiting.exists() or (directory / f"{NEXT}.key").exists():
        return
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = key_from_pem(read_secret(key_path), key_path).public_key().public_bytes(*form)
    certificate = x509.load_pem_x509_certificate(waiting.read_bytes())
    if certificate.public_key().public_bytes(*form) == key:
        waiting.replace(directory / f"{STEM}.crt")
    else:
        waiting.unlink()  # of a root whose key was never written

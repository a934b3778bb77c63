# SPDX-License-Identifier: Apache-2.0
"""The certificates in operators' files, as far as a system VM could use them; the last good one is kept.

A system VM refuses an expired certificate, and without any it serves nothing after a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from twisted.logger import Logger

from systemvm.management.pki.public import PublicIdentity
from systemvm.management.public_certificates.chain import covers, names_of
from systemvm.management.public_certificates.validity import day


class FileIdentities:
    """Read by several threads; `now` returns the time that certificates are compared with."""

    _log = Logger()

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._good: dict[tuple[Path, str], PublicIdentity] = {}
        self._faults: dict[str, str] = {}

    def usable(self, host: str, certificate_file: Path, key_file: Path) -> PublicIdentity | None:
        """Return what the files have for a host now, else what they had last; None when neither is usable."""
        key = (certificate_file, host)
        try:
            identity = PublicIdentity.read(certificate_file, key_file)
            fault = self._fault_of(identity, host)
        except (OSError, UnicodeDecodeError) as error:
            fault = f"cannot be read: {error}"
        if not fault:
            self._faults.pop(host, None)
            self._good[key] = identity
            return identity
        if self._faults.get(host) != fault:
            self._log.warn("certificate_file of {host} is not used: {why}", host=host, why=fault)
        self._faults[host] = fault
        before = self._good.get(key)
        return None if before is None or self._fault_of(before, host) else before

    def fault(self, host: str) -> str:
        """Return why the files of a host were not used last, or an empty text."""
        return self._faults.get(host, "")

    def is_used(self, host: str) -> bool:
        """Return whether an operator's files prove a host now."""
        good = [identity for (_, name), identity in list(self._good.items()) if name == host]
        return any(not self._fault_of(identity, host) for identity in good)

    def _fault_of(self, identity: PublicIdentity, host: str) -> str:
        try:
            leaf, *_ = identity.certificates()
        except ValueError:
            return "it contains no certificate in PEM"
        now = self._now()
        if identity.not_after <= now:
            return f"it expired on {day(identity.not_after)}"
        if leaf.not_valid_before_utc > now:
            return f"it is not valid before {day(leaf.not_valid_before_utc)}"
        if not covers(names_of(leaf), host):
            return f"it is not for {host}"
        try:
            key = load_pem_private_key(identity.private_key_pem.encode(), None)
        except TypeError:
            return "its private key is encrypted"
        except (ValueError, UnsupportedAlgorithm):
            return "key_file contains no private key in PEM"
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
            return "key_file has another key"
        return ""

# SPDX-License-Identifier: Apache-2.0
"""Certificates that operators keep in files: which there are, and when each ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from attrs import frozen
from cryptography import x509

from systemvm.host.zone import ZoneConfig
from systemvm.management.config import PageConfig


@frozen
class CertificateFile:
    """A file and the setting that names it."""

    setting: str
    path: Path
    host: str

    def chain(self) -> list[x509.Certificate]:
        """Return its certificates, leaf first.

        Raises: OSError or ValueError when there are none.
        """
        return x509.load_pem_x509_certificates(self.path.read_bytes())

    def not_after(self) -> datetime:
        """Return when the first of its certificates ends; raises as `chain`."""
        return min(each.not_valid_after_utc for each in self.chain())


def certificate_files(zones: Iterable[ZoneConfig], page: PageConfig) -> Sequence[CertificateFile]:
    """Return the files that the configuration names; those of a page without TLS are not used."""
    found = []
    if page.certificate_file is not None and page.ends_tls:
        found.append(CertificateFile("page.certificate_file", page.certificate_file, page.endpoint.host))
    for zone in zones:
        for name, section in (("console", zone.console), ("secondary_storage", zone.secondary_storage)):
            if section.certificate_file is not None and section.endpoint.scheme == "https":
                setting = f"{name}.certificate_file of zone {zone.name}"
                found.append(CertificateFile(setting, section.certificate_file, section.endpoint.host))
    return found

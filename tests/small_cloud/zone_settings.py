# SPDX-License-Identifier: Apache-2.0
"""The settings of the zone, which a test can change."""

from __future__ import annotations

from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.public_certificates.sites import PublicSites
from systemvm.wire.source_access import SourceAccess, SourceProxy


class FakeZoneFacts:
    """The configuration of one zone."""

    def __init__(self) -> None:
        self.storage = SecondaryStorageConfig()
        self.sites: PublicSites | None = None

    def source_ca_pem(self, zone_name: str) -> str | None:
        return "-----BEGIN CERTIFICATE-----"

    def source_access(self, zone_name: str) -> SourceAccess:
        return SourceAccess(proxy=SourceProxy("10.11.0.9"))

    def max_template_size_bytes(self, zone_name: str) -> int:
        return 1 << 30

    def file_decides_read_only(self, zone_name: str, store_name: str) -> bool:
        return False

    def secondary_storage(self, zone_name: str, address: str | None = None) -> SecondaryStorageConfig:
        if self.sites is None:
            return self.storage
        return self.sites.secondary_storage(zone_name, self.storage, address)

    def own_networks(self) -> list[str]:
        return ["203.0.113.1/32"]

# SPDX-License-Identifier: Apache-2.0
"""The settings of zones, of which a test can change those of secondary storage."""

from __future__ import annotations

from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.config import Configuration
from systemvm.management.inventory import ZoneSettings
from systemvm.management.public_certificates.sites import PublicSites
from systemvm.wire.source_access import SourceAccess, SourceProxy


class ChangeableSettings(ZoneSettings):
    """The zones of a configuration, with settings of secondary storage as if from their files."""

    def __init__(self, configuration: Configuration, sites: PublicSites) -> None:
        super().__init__(configuration, sites)
        self.storage = SecondaryStorageConfig()

    def source_ca_pem(self, zone_name: str) -> str | None:
        return "-----BEGIN CERTIFICATE-----"

    def source_access(self, zone_name: str) -> SourceAccess:
        return SourceAccess(proxy=SourceProxy("10.11.0.9"))

    def max_template_size_bytes(self, zone_name: str) -> int:
        return 1 << 30

    def own_networks(self) -> list[str]:
        return ["203.0.113.1/32"]

    def secondary_storage(self, zone_name: str, address: str | None = None) -> SecondaryStorageConfig:
        return self._sites.secondary_storage(zone_name, self.storage, address)

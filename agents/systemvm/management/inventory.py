# SPDX-License-Identifier: Apache-2.0
"""Writes the configured zones, image stores and this host to the database."""

from __future__ import annotations

from importlib.metadata import version

from twisted.logger import Logger

from systemvm.host.architecture import Architecture
from systemvm.host.config_file import ConfigError
from systemvm.host.zone import NetworksConfig, SecondaryStorageConfig
from systemvm.management.config import Configuration
from systemvm.management.own_networks import own_networks
from systemvm.management.public_certificates.sites import PublicSites
from systemvm.management.state import zones
from systemvm.management.state.database import Connection
from systemvm.management.state.zones import Host
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.source_access import SourceAccess

_log = Logger(namespace="systemvm.management.inventory")


def write_inventory(connection: Connection, configuration: Configuration) -> Host:
    """Bring the rows up to date with the files and return this host.

    Raises: ConfigError when no file describes a zone, or an architecture is unknown.
    """
    host: Host | None = None
    for config in configuration.zones:
        try:
            arch = Architecture.of(config.arch).value
        except ValueError as error:
            raise ConfigError(f"zone {config.name}: arch: {error}") from error
        zone = zones.put_zone(
            connection,
            config.name,
            arch=arch,
            description=config.description,
            dns=[str(server) for server in config.dns],
            internal_dns=[str(server) for server in config.internal_dns or config.dns],
        )
        for store in config.image_stores:
            zones.put_store(
                connection,
                store.name,
                zone_id=zone.id,
                url=store.url,
                host_path=None if store.host_path is None else str(store.host_path),
                nfs_version=store.nfs_version,
                mount_options=store.mount_options,
                read_only=store.read_only,
            )
        for released in zones.release_stores(connection, zone.id, [one.name for one in config.image_stores]):
            _log.info(
                "image store {store} is not in the file of zone {zone} any more; deleteImageStore removes it",
                store=released.name,
                zone=zone.name,
            )
        # A host is in one zone: the first by file name.
        if host is None:
            host = zones.put_host(
                connection,
                configuration.management.host_name,
                zone_id=zone.id,
                arch=arch,
                address=str(config.networks.management.host_address or ""),
                version=version("systemvm"),
            )
    if host is None:
        raise ConfigError(
            f"{configuration.layout.zones}: no *.yaml describes a zone; begin with a copy of zone.yaml.sample"
        )
    return host


class ZoneSettings:
    """The settings of zones for services, by the names in the rows."""

    def __init__(self, configuration: Configuration, sites: PublicSites) -> None:
        self._configuration = configuration
        self._sites = sites

    def source_ca_pem(self, zone_name: str) -> str | None:
        return self._configuration.zone(zone_name).source_ca_pem

    def source_access(self, zone_name: str) -> SourceAccess:
        """Return how SSVMs of the zone reach sources."""
        zone = self._configuration.zone(zone_name)
        return SourceAccess(proxy=zone.source_proxy, trusted_keys=zone.source_keyring)

    def max_template_size_bytes(self, zone_name: str) -> int:
        return self._configuration.zone(zone_name).max_template_size_bytes

    def own_networks(self) -> list[str]:
        return own_networks(self._configuration)

    def file_decides_read_only(self, zone_name: str, store_name: str) -> bool:
        """Return whether the zone's file says if a store is read-only."""
        stores = self._configuration.zone(zone_name).image_stores
        return any(store.name == store_name and store.read_only is not None for store in stores)

    def secondary_storage(self, zone_name: str) -> SecondaryStorageConfig:
        of_file = self._configuration.zone(zone_name).secondary_storage
        return self._sites.secondary_storage(zone_name, of_file)

    def vnc_address(self, zone_name: str) -> str:
        """Return the address of VNC servers: this host's on the management network, open only to CPVMs."""
        return str(self._configuration.zone(zone_name).networks.management.host_address)

    def networks(self, zone_name: str) -> NetworksConfig:
        return self._configuration.zone(zone_name).networks

    def guest_bridge(self, zone_name: str) -> str | None:
        guest = self._configuration.zone(zone_name).networks.guest
        return None if guest is None else guest.bridge

    def console_endpoint(self, zone_name: str, public_address: str) -> PublicEndpoint:
        """Return how browsers reach the CPVM with this public address."""
        return self._sites.console(zone_name, public_address)

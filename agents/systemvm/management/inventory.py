# SPDX-License-Identifier: Apache-2.0
"""Writes the zones and image stores of files, and this host, to the database."""

from __future__ import annotations

import os
from platform import machine

from twisted.logger import Logger

from systemvm.host.architecture import Architecture
from systemvm.host.config_file import ConfigError
from systemvm.host.host_file import FILE_NAME
from systemvm.host.zone import NetworkConfig, NetworksConfig, SecondaryStorageConfig, ZoneConfig
from systemvm.management.config import Configuration
from systemvm.management.own_networks import own_networks
from systemvm.management.public_certificates.sites import PublicSites
from systemvm.management.state import offerings, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.zones import Host, Zone
from systemvm.management.zone_model.file_import import import_host, import_zone
from systemvm.service.release import RELEASE
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.source_access import SourceAccess

MIB = 1024 * 1024

_log = Logger(namespace="systemvm.management.inventory")


def write_inventory(connection: Connection, configuration: Configuration) -> Host:
    """Import what files describe and the rows lack, and return this host.

    Raises: ConfigError when there is no zone and no host.yaml, or an architecture is unknown.
    """
    offerings.add_first(connection)
    first: Zone | None = None
    for config in configuration.zones:
        zone = _write_zone(connection, config)
        first = first or zone
    files = [config.name for config in configuration.zones]
    for released in zones.release_zones(connection, files):
        _log.info("zone {zone} has no file any more; its settings are the defaults", zone=released.name)
    if first is None and not configuration.labels and not zones.list_zones(connection):
        raise ConfigError(
            f"{configuration.layout.zones}: no *.yaml describes a zone; begin with a copy of "
            f"zone.yaml.sample, or write {configuration.layout.etc / FILE_NAME} and call createZone"
        )
    management = None if first is None else configuration.zone(first.name).networks.management
    arch = Architecture.of(configuration.zones[0].arch if configuration.zones else machine())
    host = zones.put_host(
        connection,
        configuration.management.host_name,
        # A host is in one zone: that of its cluster, or the first by file name.
        zone_id=None if first is None else first.id,
        arch=arch.value,
        address=_management_address(configuration, management),
        version=RELEASE,
        cpus=os.cpu_count(),
        memory_mib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB,
        has_uefi=arch.has_uefi,
    )
    return import_host(connection, host)


def _write_zone(connection: Connection, config: ZoneConfig) -> Zone:
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
    return import_zone(connection, zone, config)


def _management_address(configuration: Configuration, network: NetworkConfig | None) -> str:
    """Return this host's address for the management network: of the zone's file, else of host.yaml."""
    if network is not None:
        return str(network.host_address or "")
    of_host = [each for each in configuration.labels.values() if each.is_management]
    return next((str(address.ip) for each in of_host for address in each.addresses), "")


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

    def secondary_storage(self, zone_name: str, address: str | None = None) -> SecondaryStorageConfig:
        """Return the settings of a zone, or those of its SSVM with this public address."""
        of_file = self._configuration.zone(zone_name).secondary_storage
        return self._sites.secondary_storage(zone_name, of_file, address)

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

# SPDX-License-Identifier: Apache-2.0
"""Zones as services see them: the settings of their files and rows, and the networks of their rows."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

import msgspec
from twisted.logger import Logger

from systemvm.host.bridges import HostNetwork
from systemvm.host.zone import (
    AddressRange,
    ConsoleConfig,
    NetworkConfig,
    NetworksConfig,
    TrafficType,
    ZoneConfig,
)
from systemvm.management.config import Configuration
from systemvm.management.configurations.image_storage import with_settings
from systemvm.management.state import address_ranges, configurations, physical_networks, pods, zones
from systemvm.management.state.address_ranges import Network, NetworkRange, Span
from systemvm.management.state.database import Connection
from systemvm.management.state.physical_networks import CarriedTraffic
from systemvm.management.state.zones import Zone

_K = TypeVar("_K")
_V = TypeVar("_V")

#: How browsers reach the CPVMs of a zone without a file: each at its own address.
OWN_ADDRESS = "https://*:8443"
#: Stands for the IPv4 network of one of IPv6 alone.
_NO_IPV4 = IPv4Network("0.0.0.0/32")
#: Stands for the management network of a zone that has no pod yet; no VM is started there.
_NO_NETWORK = NetworkConfig("none", _NO_IPV4)


class ZoneCatalog:
    """Keeps `Configuration.current` up to date; `load` is called at start and after each change."""

    _log = Logger()

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._files = {zone.name: zone for zone in configuration.zones}
        #: Names of zones by number.
        self.names: dict[int, str] = {}

    def load(self, connection: Connection) -> None:
        """Read the rows. What services hold is changed in place."""
        current: dict[str, ZoneConfig] = {}
        names: dict[int, str] = {}
        ranges: dict[str, list[Span]] = {}
        outside: dict[str, list[Network]] = {}
        management: dict[str, list[IPv4Network]] = {}
        of_all = configurations.values(connection, None)
        own_pod = _pod_of(connection, self._configuration.management.host_name)
        for zone in zones.list_zones(connection):
            names[zone.id] = zone.name
            management[zone.name] = [pod.cidr for pod in pods.list_pods(connection, zone.id)]
            of_type = _ranges_by_type(connection, zone.id)
            # this host's address is in the network of its pod
            of_type.get(TrafficType.MANAGEMENT, []).sort(key=lambda each: each.pod_id != own_pod)
            ranges[zone.name] = [
                span
                for kind in (TrafficType.PUBLIC, TrafficType.GUEST)
                for each in of_type.get(kind, [])
                for span in each.spans
            ]
            reached = of_type.get(TrafficType.PUBLIC) or of_type.get(TrafficType.MANAGEMENT, [])
            outside[zone.name] = [each.cidr for each in reached if each.size]
            try:
                current[zone.name] = with_settings(
                    self._compose(zone, self._networks(connection, zone, of_type)),
                    configurations.own_values(connection, zone.id),
                    of_all,
                )
            except ValueError as error:
                self._log.error("zone {zone} cannot be used: {error}", zone=zone.name, error=str(error))
        _replace(self.names, names)
        _replace(self._configuration.current, current)
        _replace(self._configuration.address_ranges, ranges)
        _replace(self._configuration.outside_networks, outside)
        _replace(self._configuration.management_networks, management)

    def _compose(self, zone: Zone, networks: NetworksConfig) -> ZoneConfig:
        file = self._files.get(zone.name) or ZoneConfig(
            zone.name, networks, dns=[], console=ConsoleConfig(origin=OWN_ADDRESS)
        )
        return msgspec.structs.replace(
            file,
            networks=networks,
            dns=[IPv4Address(server) for server in zone.dns],
            internal_dns=[IPv4Address(server) for server in zone.internal_dns],
            dns6=[IPv6Address(server) for server in zone.dns6],
            domain=zone.network_domain,
            arch=zone.arch or file.arch,
            description=zone.description,
        )

    def _networks(
        self, connection: Connection, zone: Zone, ranges: dict[TrafficType, list[NetworkRange]]
    ) -> NetworksConfig:
        carried = physical_networks.traffic_of_zone(connection, zone.id)
        found = {
            kind: self._network(self._label(connection, kind, carried), of_type)
            for kind, of_type in ranges.items()
        }
        return NetworksConfig(
            control=found.get(TrafficType.CONTROL, _NO_NETWORK),
            management=found.get(TrafficType.MANAGEMENT, _NO_NETWORK),
            public=found.get(TrafficType.PUBLIC),
            storage=found.get(TrafficType.STORAGE),
            guest=found.get(TrafficType.GUEST),
        )

    def _label(
        self, connection: Connection, kind: TrafficType, carried: dict[TrafficType, CarriedTraffic]
    ) -> str:
        traffic = carried.get(kind)
        if traffic is not None:
            network = physical_networks.network_by_id(connection, traffic.physical_network_id)
            return traffic.kvm_label or network.name
        if kind is TrafficType.CONTROL:
            return control_label(self._configuration)
        return "none"

    def _network(self, label: str, ranges: list[NetworkRange]) -> NetworkConfig:
        """Return a network by its first range with IPv4, else by its first one."""
        facts = self._configuration.labels.get(label)
        bridge, uplink = (label, None) if facts is None else (facts.bridge, facts.uplink)
        first = next((each for each in ranges if not each.is_ipv6), ranges[0])
        cidr, gateway = first.cidr, first.gateway
        if isinstance(cidr, IPv6Network):
            router = gateway if isinstance(gateway, IPv6Address) else None
            return NetworkConfig(bridge, _NO_IPV4, uplink=uplink, cidr6=cidr, gateway6=router)
        return NetworkConfig(
            bridge=bridge,
            cidr=cidr,
            # the host itself is in no VLAN of a label
            host_address=None if facts is None or first.vlan else _address_in(facts, cidr),
            gateway=gateway if isinstance(gateway, IPv4Address) else None,
            pool=_pool(first),
            uplink=uplink,
            cidr6=first.cidr6,
            gateway6=first.gateway6,
        )


def control_label(configuration: Configuration) -> str:
    """Return the label of this host's control network; CloudStack's bridge when no file names one."""
    found = (label for label, network in configuration.labels.items() if network.is_control)
    return next(found, "cloud0")


def _ranges_by_type(connection: Connection, zone_id: int) -> dict[TrafficType, list[NetworkRange]]:
    found: dict[TrafficType, list[NetworkRange]] = {}
    for each in address_ranges.list_ranges(connection, zone_id):
        found.setdefault(each.traffic_type, []).append(each)
    return found


def _pod_of(connection: Connection, host_name: str) -> int | None:
    """Return the number of the pod that a host is in."""
    host = next((each for each in zones.list_hosts(connection) if each.name == host_name), None)
    pod = None if host is None else pods.pod_of_host(connection, host.id)
    return None if pod is None else pod.id


def _pool(of: NetworkRange) -> AddressRange | None:
    if isinstance(of.first, IPv4Address) and isinstance(of.last, IPv4Address):
        return AddressRange(of.first, of.last)
    return None


def _address_in(network: HostNetwork, cidr: IPv4Network) -> IPv4Address | None:
    addresses = (each.ip for each in network.addresses)
    return next((one for one in addresses if isinstance(one, IPv4Address) and one in cidr), None)


def _replace(held: dict[_K, _V], new: dict[_K, _V]) -> None:
    """Give a dict the items of another without a moment in which it lacks one that is in both."""
    held.update(new)
    for gone in held.keys() - new.keys():
        del held[gone]

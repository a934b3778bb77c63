# SPDX-License-Identifier: Apache-2.0
"""`host.yaml`: the networks that this host has, by label. Zones made by the API use only these.

The file belongs to root: the network helper makes what it names, and nothing that a request asks for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from attrs import evolve
from msgspec import field

from systemvm.host.bridges import BridgeKind, Datapath, HostNetwork, Interface, check_kind, parse_vlans
from systemvm.host.config_file import ConfigError, ConfigSection, load
from systemvm.host.host_networks import host_networks
from systemvm.host.zone import TrafficType, ZoneConfig

FILE_NAME = "host.yaml"


class LabelConfig(ConfigSection, frozen=True):
    """A network of this host: a bridge, and what it is connected to."""

    #: What it carries: the firewall treats control and management bridges in their own ways.
    traffic_types: list[TrafficType]
    bridge: str = ""  # default: the label
    addresses: list[str] = field(default_factory=list)  # of this host, such as 10.11.0.1/24
    uplink: str | None = None  # an interface that becomes a port of the bridge
    vlans: Sequence[int | str] = field(default_factory=list)  # of ranges and guest networks: 200-299
    kind: BridgeKind = BridgeKind.LINUX
    datapath: Datapath | None = None  # of an Open vSwitch bridge; it is made with the kernel's by default
    guest_cidr: IPv4Network | None = None  # the subnets of isolated guest networks, such as 10.1.0.0/16
    #: Of this host, in VLANs of shared guest networks, such as {200: [10.20.0.2/24]}.
    vlan_addresses: dict[int, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.traffic_types:
            raise ValueError("traffic_types must name at least one traffic type")
        for address in self.addresses:
            if "/" not in address:
                raise ValueError(f"addresses: {address!r} has no prefix length: write it as 10.11.0.1/24")
        _ = self.interfaces  # raises when one is not an address
        if self.tags and TrafficType.CONTROL in self.traffic_types:
            raise ValueError("vlans: control traffic has no VLAN")
        check_kind(self.kind, self.datapath, is_control=TrafficType.CONTROL in self.traffic_types)
        self._check_guest_keys()

    def _check_guest_keys(self) -> None:
        given = [name for name in ("guest_cidr", "vlan_addresses") if getattr(self, name)]
        if given and TrafficType.GUEST not in self.traffic_types:
            raise ValueError(f"{given[0]}: only a label with guest traffic can have it")
        if given and self.kind is not BridgeKind.LINUX:
            raise ValueError(f"{given[0]}: only a label of kind {BridgeKind.LINUX.value} can have it")
        unknown = self.vlan_addresses.keys() - self.tags
        if unknown:
            raise ValueError(f"vlan_addresses: {min(unknown)} is not one of vlans")
        for addresses in self.vlan_addresses.values():
            _ = [ipaddress.IPv4Interface(address) for address in addresses]

    @property
    def tags(self) -> frozenset[int]:
        return parse_vlans(map(str, self.vlans))

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        return tuple(ipaddress.ip_interface(address) for address in self.addresses)

    @property
    def own_networks(self) -> list[ipaddress.IPv4Network]:
        """The IPv4 networks in which this host has an address."""
        addresses = [*self.addresses, *(each for of_vlan in self.vlan_addresses.values() for each in of_vlan)]
        found = [ipaddress.ip_interface(address).network for address in addresses]
        return [each for each in found if isinstance(each, IPv4Network)]


class HostConfig(ConfigSection, frozen=True):
    """What this host has."""

    labels: dict[str, LabelConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bridges = [config.bridge or label for label, config in self.labels.items()]
        for bridge in bridges:
            if bridges.count(bridge) > 1:
                raise ValueError(f"labels: two labels have the bridge {bridge}; use one label for both")
        self._check_apart()

    def _check_apart(self) -> None:
        """Check that subnets of isolated networks cannot be those of anything else of this host."""
        for label, config in self.labels.items():
            for name, other in self.labels.items():
                others = [*other.own_networks]
                others += [other.guest_cidr] if other.guest_cidr is not None and name != label else []
                for network in others:
                    if config.guest_cidr is not None and config.guest_cidr.overlaps(network):
                        raise ValueError(
                            f"labels: guest_cidr {config.guest_cidr} of {label} overlaps {network} of {name}"
                        )

    def networks(self) -> dict[str, HostNetwork]:
        """Return the network of each label.

        Raises: ValueError when a bridge's name cannot be one.
        """
        return {
            label: HostNetwork(
                config.bridge or label,
                tuple(kind.value for kind in config.traffic_types),
                config.interfaces,
                config.uplink,
                config.tags,
                config.kind,
                config.datapath,
                guest_cidr=config.guest_cidr,
                vlan_addresses=tuple(
                    (vlan, tuple(map(ipaddress.ip_interface, addresses)))
                    for vlan, addresses in config.vlan_addresses.items()
                ),
            )
            for label, config in self.labels.items()
        }


def load_host(etc: Path) -> HostConfig:
    """Return what `host.yaml` says; nothing when there is no such file.

    Raises: ConfigError when it is wrong.
    """
    path = etc / FILE_NAME
    if not path.exists():
        return HostConfig()
    config = load(path, HostConfig)
    try:
        config.networks()
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    return config


def labelled_networks(zones: Iterable[ZoneConfig], host: HostConfig) -> dict[str, HostNetwork]:
    """Return every network of this host by label; the bridges of zones' files are labels, too.

    A bridge that both name has both labels, the traffic types and addresses of both, and the uplink and kind
    of `host.yaml`.

    Raises: ConfigError when a bridge cannot be of the kind that `host.yaml` gives it.
    """
    found = {network.bridge: network for network in host_networks(zones)}
    for label, network in host.networks().items():
        other = found.get(network.bridge)
        if other is not None:
            network = found[network.bridge] = _merge(network, other)
        found[label] = network
    return found


def _merge(network: HostNetwork, of_zones: HostNetwork) -> HostNetwork:
    try:
        return evolve(
            network,
            traffic_types=tuple(dict.fromkeys((*of_zones.traffic_types, *network.traffic_types))),
            addresses=tuple(dict.fromkeys((*of_zones.addresses, *network.addresses))),
            uplink=network.uplink or of_zones.uplink,
        )
    except ValueError as error:
        raise ConfigError(f"{FILE_NAME}: bridge {network.bridge}: {error}") from error

# SPDX-License-Identifier: Apache-2.0
"""CloudStack's boot arguments for a system VM (reference 1.3, 1.4); pure functions."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Interface

from attrs import frozen

from systemvm.host.zone import TrafficType, ZoneConfig
from systemvm.management.config import ControlConfig
from systemvm.management.state.instances import Instance, Nic
from systemvm.management.state.status import InstanceType
from systemvm.wire import boot_arguments
from systemvm.wire.role import Role
from systemvm.wire.storage import Store

MTU = 1500
CONSOLE_PORT = 8443

ROLES = {InstanceType.SECONDARY_STORAGE: Role.SSVM, InstanceType.CONSOLE_PROXY: Role.CPVM}
TYPES = {role: kind for kind, role in ROLES.items()}

_Pairs = list[tuple[str, object]]


@frozen
class BootFacts:
    """The values that all system VMs of a zone have in common."""

    zone: ZoneConfig
    zone_id: int
    control: ControlConfig
    authorized_key: str  # a line of authorized_keys
    own_networks: Sequence[str] = ()  # CIDRs of this cloud among public addresses
    management_networks: Sequence[IPv4Network] = ()  # of the zone's pods
    stores: Sequence[Store] = ()  # of the zone; without any, those of its file


def cmdline(vm: Instance, nics: Sequence[Nic], facts: BootFacts) -> str:
    """Return the whole text, in CloudStack's order."""
    role = ROLES[vm.type]
    head: _Pairs = [
        ("template", "domP"),
        ("type", role.boot_type),
        ("host", facts.control.address),
        ("port", facts.control.port),
        ("name", vm.instance_name),
    ]
    key = base64.b64encode(facts.authorized_key.encode()).decode()
    place: _Pairs = [("zone", facts.zone_id), ("pod", facts.zone_id)]
    if role is Role.SSVM:
        middle: _Pairs = [
            *place,
            ("guid", vm.instance_name),
            ("workers", 5),
            ("authorized_key", key),
            ("resource", "org.apache.cloudstack.storage.resource.NfsSecondaryStorageResource"),
            ("instance", "SecStorage"),
            ("sslcopy", "true"),
            ("role", "templateProcessor"),
            ("mtu", MTU),
        ]
    else:
        middle = [
            ("premium", "true"),
            *place,
            ("guid", f"Proxy.{vm.id}"),
            ("proxy_vm", vm.id),
            ("authorized_key", key),
        ]
    tail = [*_networking(nics, facts, role), *_name_servers(facts.zone)]
    if facts.zone.ntp_servers:
        tail.append(("ntpserverlist", ",".join(facts.zone.ntp_servers)))
    if role is Role.SSVM and facts.own_networks:
        tail.append(("fetch_denied", ",".join(facts.own_networks)))
    if role is Role.SSVM:
        tail += _sources(facts.zone)
    tail += _storage(facts) if role is Role.SSVM else [("vncport", _console_port(facts.zone))]
    return boot_arguments.format([*head, *middle, *tail])


def _console_port(zone: ZoneConfig) -> int:
    """Return the port of consoles: with a star, browsers reach the CPVM itself at the advertised one."""
    endpoint = zone.console.endpoint
    return endpoint.port if endpoint.is_wildcard else CONSOLE_PORT


def _networking(nics: Sequence[Nic], facts: BootFacts, role: Role) -> _Pairs:
    """Return addresses, those of the default NIC first as in CloudStack; readers must not rely on the
    order.
    """
    by_type = {nic.traffic_type: nic for nic in nics}
    management = by_type[TrafficType.MANAGEMENT.value]
    outside = by_type.get(TrafficType.PUBLIC.value, management)
    pairs: _Pairs = []
    for nic in sorted(nics, key=lambda nic: (nic is not outside, nic.device)):
        pairs += [
            (f"eth{nic.device}ip", nic.address or "0.0.0.0"),  # noqa: S104 - CloudStack's "none"
            (f"eth{nic.device}mask", nic.netmask or "0.0.0.0"),  # noqa: S104
        ]
    pairs += _ipv6(nics, outside, facts.zone)
    if outside.gateway:
        pairs.append(("gateway", outside.gateway))
    # hosts of other pods are behind the management network's router
    own = _network_of(management) or facts.zone.networks.management.cidr
    pairs.append(("mgmtcidr", ",".join(map(str, dict.fromkeys([own, *facts.management_networks])))))
    if management.gateway:
        pairs.append(("localgw", management.gateway))
    pairs += [
        ("private.network.device", f"eth{management.device}"),
        # without a public network consoles and sources are reached over the management network
        ("public.network.device", f"eth{outside.device}"),
    ]
    if role is Role.SSVM:
        pairs += _storage_network(by_type.get(TrafficType.STORAGE.value), management)
    pairs.append(("nic_macs", _macs(nics)))
    return pairs


def _storage_network(storage: Nic | None, management: Nic) -> _Pairs:
    """Return the arguments of the NIC that stores are reached by.

    Without a storage network that is the management NIC, also for stores behind its router.
    """
    pairs: _Pairs = []
    if storage is not None and storage.address:
        pairs += [("storageip", storage.address), ("storagenetmask", storage.netmask)]
    nic = storage or management
    gateway = nic.gateway or nic.gateway6
    if gateway:
        pairs.append(("storagegateway", gateway))
    return pairs


def _network_of(nic: Nic) -> IPv4Network | None:
    if nic.address is None or nic.netmask is None:
        return None
    return IPv4Network(f"{nic.address}/{nic.netmask}", strict=False)


def _macs(nics: Sequence[Nic]) -> str:
    """Return the MACs of eth0, eth1, …; the place of a device that the VM does not have is empty."""
    by_device = {nic.device: nic.mac for nic in nics}
    return "|".join(by_device.get(device, "") for device in range(max(by_device) + 1))


def _ipv6(nics: Sequence[Nic], outside: Nic, zone: ZoneConfig) -> _Pairs:
    """Return the arguments of NICs with IPv6; the gateway is the default NIC's.

    A NIC of an earlier release has its address from its network instead of from its row.
    """
    pairs: _Pairs = []
    networks = {kind.value: network for kind, network in zone.networks.by_type().items()}
    gateway = outside.gateway6
    for nic in nics:
        network = networks.get(nic.traffic_type)
        own = IPv6Interface(nic.address6) if nic.address6 else None
        if own is None and network is not None and nic.address and IPv4Address(nic.address) in network.cidr:
            own = network.address6(IPv4Address(nic.address))
            if nic is outside and network.gateway6 is not None:
                gateway = str(network.gateway6)
        if own is not None:
            pairs += [
                (f"eth{nic.device}ip6", own.ip),
                (f"eth{nic.device}ip6prelen", own.network.prefixlen),
            ]
    if gateway:
        pairs.append(("ip6gateway", gateway))
    return pairs


def _name_servers(zone: ZoneConfig) -> _Pairs:
    internal = zone.internal_dns or zone.dns
    pairs: _Pairs = [(f"internaldns{n}", server) for n, server in enumerate(internal[:2], 1)]
    pairs += [(f"dns{n}", server) for n, server in enumerate(zone.dns[:2], 1)]
    return pairs + [(f"ip6dns{n}", server) for n, server in enumerate(zone.dns6[:2], 1)]


def _sources(zone: ZoneConfig) -> _Pairs:
    """Return what the guest's firewall opens; the proxy's login comes with each download instead."""
    pairs: _Pairs = []
    if zone.allowed_internal_sites:
        pairs.append(("fetch_allowed", ",".join(zone.allowed_internal_sites)))
    if zone.source_proxy is not None:
        pairs.append(("fetch_proxy", zone.source_proxy.authority))
    return pairs


def _storage(facts: BootFacts) -> _Pairs:
    stores = facts.stores or [store.store for store in facts.zone.image_stores]
    exports = [store for store in stores if store.s3 is None]
    buckets = [store.s3 for store in stores if store.s3 is not None]
    servers = dict.fromkeys(store.server for store in exports)
    # a firewall takes addresses; an endpoint that is given by name must be in the public network
    endpoints = dict.fromkeys(bucket.authority_with_port for bucket in buckets if bucket.is_address)
    return [
        ("nfsVersion", exports[0].nfs_version if exports else "null"),
        ("useHttpsToUpload", "true"),
        ("secondaryStorageServerAddress", ",".join(servers)),
        *([("fetch_stores", ",".join(endpoints))] if endpoints else []),
    ]

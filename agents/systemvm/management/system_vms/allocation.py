# SPDX-License-Identifier: Apache-2.0
"""Creates the rows of a system VM, its NICs and its addresses in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address

from systemvm.host.architecture import Architecture
from systemvm.host.bridges import HostNetwork
from systemvm.host.zone import TrafficType, ZoneConfig
from systemvm.management.state import addresses, instances
from systemvm.management.state.accounts import SYSTEM_ACCOUNT_ID
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.state.zones import Zone
from systemvm.management.system_vms.boot_arguments import TYPES
from systemvm.management.zone_model.system_vm_networks import networks_of_system_vm
from systemvm.wire.role import Role


def mac_of(traffic: TrafficType, address: IPv4Address | IPv6Address) -> str:
    """Return the MAC of an address: 0e:00 for control as in CloudStack's guru, 1e:00 for the others.

    An address of IPv6 does not fit into a MAC: its digest is in one that begins with 1e:06.

    >>> mac_of(TrafficType.CONTROL, IPv4Address("169.254.1.2"))
    '0e:00:a9:fe:01:02'
    >>> mac_of(TrafficType.PUBLIC, IPv6Address("2001:db8::1"))
    '1e:06:61:4f:1e:4f'
    """
    if isinstance(address, IPv6Address):
        return f"1e:06:{hashlib.blake2b(address.packed, digest_size=4).digest().hex(':')}"
    prefix = "0e:00" if traffic is TrafficType.CONTROL else "1e:00"
    return f"{prefix}:{address.packed.hex(':')}"


def allocate(
    connection: Connection,
    zone: Zone,
    config: ZoneConfig,
    role: Role,
    host_id: int,
    labels: Mapping[str, HostNetwork],
) -> Instance:
    """Create a Stopped system VM with everything that it keeps until it is destroyed.

    Raises: IncompleteZoneError when the zone lacks a network, PoolExhaustedError when no range of one has a
    free address.
    """
    size = config.system_vms.of(role)
    networks = networks_of_system_vm(connection, zone.id, host_id, role, labels)
    vm = instances.create(
        connection,
        TYPES[role],
        account_id=SYSTEM_ACCOUNT_ID,
        zone_id=zone.id,
        arch=Architecture.of(config.arch).value,
        host_id=host_id,
        vcpus=size.vcpus,
        memory_mib=size.memory_mib,
        state=InstanceState.STOPPED,
        wanted=True,
    )
    for network in networks:
        traffic = network.traffic_type
        chosen, address = addresses.allocate_from(
            connection, network.ranges, vm_id=vm.id, randomly=traffic is TrafficType.CONTROL
        )
        routed = traffic is not TrafficType.CONTROL
        is_ipv6 = isinstance(address, IPv6Address)
        address6 = chosen.address6(address)
        gateway6 = chosen.gateway if is_ipv6 else chosen.gateway6
        instances.add_nic(
            connection,
            vm_id=vm.id,
            device=network.device,
            traffic_type=traffic.value,
            bridge=network.bridge,
            vlan=chosen.vlan,
            mac=mac_of(traffic, address),
            address=None if is_ipv6 else str(address),
            netmask=None if is_ipv6 else str(chosen.cidr.netmask),
            gateway=str(chosen.gateway) if routed and chosen.gateway and not is_ipv6 else None,
            address6=None if address6 is None else str(address6),
            gateway6=None if gateway6 is None else str(gateway6),
        )
    return vm

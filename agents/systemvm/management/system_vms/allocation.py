# SPDX-License-Identifier: Apache-2.0
"""Creates the rows of a system VM, its NICs and its addresses in one transaction."""

from __future__ import annotations

from ipaddress import IPv4Address

from systemvm.host.architecture import Architecture
from systemvm.host.zone import TrafficType, ZoneConfig
from systemvm.management.state import addresses, instances
from systemvm.management.state.accounts import SYSTEM_ACCOUNT_ID
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.state.zones import Zone
from systemvm.management.system_vms.boot_arguments import TYPES
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.role import Role


class AllocationError(SystemVmError):
    """The zone's configuration has no address for a NIC of a system VM."""

    code = FailureCode.CONFIGURATION


def mac_of(traffic: TrafficType, address: IPv4Address) -> str:
    """Return the MAC of an address: 0e:00 for control as in CloudStack's guru, 1e:00 for the others.

    >>> mac_of(TrafficType.CONTROL, IPv4Address("169.254.1.2"))
    '0e:00:a9:fe:01:02'
    """
    prefix = "0e:00" if traffic is TrafficType.CONTROL else "1e:00"
    return f"{prefix}:{address.packed.hex(':')}"


def allocate(connection: Connection, zone: Zone, config: ZoneConfig, role: Role, host_id: int) -> Instance:
    """Create a Stopped system VM with everything that it keeps until it is destroyed.

    Raises: AllocationError when a network has no pool, PoolExhaustedError when a pool has no free address.
    """
    size = config.system_vms.of(role)
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
    for device, (traffic, network) in enumerate(config.networks.of_system_vm(role)):
        if network.pool is None:
            raise AllocationError(f"network {traffic.value} of zone {config.name} has no address pool")
        address = addresses.allocate(
            connection,
            zone_id=zone.id,
            traffic_type=traffic.value,
            first=network.pool.first,
            last=network.pool.last,
            vm_id=vm.id,
            randomly=traffic is TrafficType.CONTROL,
        )
        routed = traffic is not TrafficType.CONTROL and network.router is not None
        instances.add_nic(
            connection,
            vm_id=vm.id,
            device=device,
            traffic_type=traffic.value,
            bridge=network.bridge,
            mac=mac_of(traffic, address),
            address=str(address),
            netmask=str(network.netmask),
            gateway=str(network.router) if routed else None,
        )
    return vm

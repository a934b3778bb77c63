# SPDX-License-Identifier: Apache-2.0
"""The networks of a system VM: on which it has NICs, and the ranges of their addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve, frozen

from systemvm.host.bridges import HostNetwork
from systemvm.host.zone import TrafficType
from systemvm.management.state import address_ranges, physical_networks, pods
from systemvm.management.state.address_ranges import NetworkRange
from systemvm.management.state.database import Connection
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.role import Role

#: The NIC of each traffic type, as in CloudStack (reference 1.2). A network that is absent leaves its device
#: out, except that the guest's default route is always by eth2: without a public network, the management NIC
#: is eth2, as the guest NIC is in CloudStack's basic zones.
DEVICES = {
    TrafficType.CONTROL: 0,
    TrafficType.MANAGEMENT: 1,
    TrafficType.PUBLIC: 2,
    TrafficType.STORAGE: 3,
}
#: A zone can be without the others: consoles and stores are then reached over the management network.
NEEDED = (TrafficType.CONTROL, TrafficType.MANAGEMENT)


class IncompleteZoneError(SystemVmError):
    """A zone lacks a network that system VMs need."""

    code = FailureCode.CONFIGURATION


@frozen
class VmNetwork:
    """A network with a NIC of a system VM."""

    traffic_type: TrafficType
    device: int  # the N of its ethN
    bridge: str
    ranges: Sequence[NetworkRange]


def networks_of_system_vm(
    connection: Connection, zone_id: int, host_id: int, role: Role, labels: Mapping[str, HostNetwork]
) -> list[VmNetwork]:
    """Return the networks of a system VM on a host, in the order of its NICs.

    Raises: IncompleteZoneError when the zone lacks one that is needed.
    """
    pod = pods.pod_of_host(connection, host_id)
    pod_id = pod.id if pod is not None and pod.zone_id == zone_id else None
    found = []
    for kind in DEVICES:
        if kind is TrafficType.STORAGE and role is not Role.SSVM:
            continue
        ranges = address_ranges.list_ranges(connection, zone_id, kind)
        usable = [
            each
            for each in ranges
            if each.size and each.for_system_vms and (each.pod_id is None or pod_id in (None, each.pod_id))
        ]
        if usable:
            bridge = bridge_of(connection, zone_id, kind, labels)
            found.append(VmNetwork(kind, DEVICES[kind], bridge, usable))
        elif kind in NEEDED or ranges:
            raise IncompleteZoneError(
                f"zone has no range of {kind.value} addresses for system VMs",
                "create one with createManagementNetworkIpRange"
                if kind is TrafficType.MANAGEMENT
                else "create one with createVlanIpRange",
            )
    if any(network.traffic_type is TrafficType.PUBLIC for network in found):
        return found
    public = DEVICES[TrafficType.PUBLIC]
    return [
        evolve(network, device=public) if network.traffic_type is TrafficType.MANAGEMENT else network
        for network in found
    ]


def bridge_of(
    connection: Connection, zone_id: int, kind: TrafficType, labels: Mapping[str, HostNetwork]
) -> str:
    """Return the bridge of this host that carries a traffic type of a zone.

    Raises: IncompleteZoneError when the host's files do not name its label.
    """
    label = label_of(connection, zone_id, kind, labels)
    network = labels.get(label)
    if network is None:
        raise IncompleteZoneError(
            f"this host has no network with the label {label} for {kind.value} traffic",
            f"add the label {label} to host.yaml",
        )
    return network.bridge


def label_of(
    connection: Connection, zone_id: int, kind: TrafficType, labels: Mapping[str, HostNetwork]
) -> str:
    """Return the label of a traffic type; without one it has that of its physical network.

    Control traffic is on no physical network unless a zone's file says so: each host has a network for it.
    """
    traffic = physical_networks.traffic_of_zone(connection, zone_id).get(kind)
    if traffic is not None:
        network = physical_networks.network_by_id(connection, traffic.physical_network_id)
        return traffic.kvm_label or network.name
    if kind is TrafficType.CONTROL:
        return next((label for label, network in labels.items() if network.is_control), "cloud0")
    raise IncompleteZoneError(
        f"zone has no physical network for {kind.value} traffic", "add it with addTrafficType"
    )

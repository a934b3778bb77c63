# SPDX-License-Identifier: Apache-2.0
"""Creates, changes and deletes zones. Each function is one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from systemvm.host.architecture import Architecture
from systemvm.host.bridges import HostNetwork
from systemvm.host.zone import TrafficType
from systemvm.management.state import (
    address_ranges,
    instances,
    physical_networks,
    pods,
    schema,
    storage_pools,
    volumes,
    zones,
)
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.pods import DISABLED, ENABLED
from systemvm.management.state.zones import FROM_API, FROM_FILE, Zone
from systemvm.management.zone_model.refusals import (
    check_domain,
    check_name,
    in_use,
    invalid,
    named,
    wrong_state,
)
from systemvm.management.zone_model.system_vm_networks import IncompleteZoneError, bridge_of

#: How many link-local addresses the system VMs of a zone choose from: CloudStack's linkLocalIp.nums is 10.
LINK_LOCAL_ADDRESSES = 1 << 10


def create_zone(
    connection: Connection,
    *,
    name: str,
    dns: list[str],
    internal_dns: list[str],
    labels: Mapping[str, HostNetwork],
    dns6: list[str] | None = None,
    arch: str = "amd64",
    network_domain: str | None = None,
    description: str = "",
) -> Zone:
    """Create a zone, which is Disabled until it has what system VMs need.

    Raises: ModelError when a value cannot be.
    """
    zone = zones.zone_rows.insert(
        connection,
        name=check_name("name", name, _names(connection)),
        arch=architecture(arch),
        description=description,
        dns=_servers("dns1", dns),
        internal_dns=_servers("internaldns1", internal_dns),
        dns6=_servers6("ip6dns1", dns6 or []),
        network_domain=check_domain("domain", network_domain) if network_domain else None,
        allocation_state=DISABLED,
        origin=FROM_API,
        imported=now(),
    )
    _add_control_range(connection, zone, labels)
    return zone


def update_zone(
    connection: Connection,
    zone: Zone,
    labels: Mapping[str, HostNetwork],
    *,
    name: str | None = None,
    allocation_state: str | None = None,
    dns: list[str] | None = None,
    internal_dns: list[str] | None = None,
    dns6: list[str] | None = None,
    network_domain: str | None = None,
    description: str | None = None,
) -> Zone:
    """Change what is not None.

    Raises: ModelError when a value cannot be, or the zone lacks something that is needed to enable it.
    """
    changes: dict[str, Any] = {}
    if name is not None and name.strip() != zone.name:
        if zone.origin == FROM_FILE:
            raise invalid("name", f"zone {zone.name} has a file with that name", "change only other values")
        others = [other for other in _names(connection) if other != zone.name]
        changes["name"] = check_name("name", name, others)
    if dns is not None:
        changes["dns"] = _servers("dns1", dns)
    if internal_dns is not None:
        changes["internal_dns"] = _servers("internaldns1", internal_dns)
    if dns6 is not None:
        changes["dns6"] = _servers6("ip6dns1", dns6)
    if network_domain is not None:
        changes["network_domain"] = check_domain("domain", network_domain) if network_domain else None
    if description is not None:
        changes["description"] = description
    if allocation_state is not None:
        if allocation_state == ENABLED:
            check_complete(connection, zone, labels)
        changes["allocation_state"] = allocation_state
    return zones.zone_rows.update(connection, zone.id, **changes) if changes else zone


def delete_zone(connection: Connection, zone: Zone) -> None:
    """Delete a zone without parts.

    Raises: ModelError when anything is in it.
    """
    if zone.origin == FROM_FILE:
        raise wrong_state(
            f"zone {zone.name}",
            "has a file, which would create it again",
            "remove its file from zones/, restart the daemon, and delete the zone then",
        )
    for noun, found in (
        ("virtual machine", _machines(connection, zone)),
        ("pod", [pod.name for pod in pods.list_pods(connection, zone.id)]),
        ("physical network", [each.name for each in physical_networks.list_networks(connection, zone.id)]),
        ("image store", [store.name for store in zones.list_stores(connection, zone.id)]),
        ("host", [host.name for host in zones.list_hosts(connection, zone.id)]),
        ("storage pool", [pool.name for pool in storage_pools.list_pools(connection, zone.id)]),
        ("volume", [volume.name for volume in volumes.of_zone(connection, zone.id)]),
    ):
        if found:
            raise in_use(f"zone {zone.name}", named(noun, found), f"delete each {noun} first")
    c = schema.address_ranges.c
    address_ranges.rows.update_where(connection, c.zone_id == zone.id, c.removed.is_(None), removed=now())
    # the name is free for another zone
    zones.zone_rows.update(connection, zone.id, removed=now(), name=f"{zone.name[:200]} (deleted {zone.id})")


def check_complete(connection: Connection, zone: Zone, labels: Mapping[str, HostNetwork]) -> None:
    """Check that a zone has what its system VMs need.

    Raises: ModelError that names what is missing, and the command that adds it.
    """
    what = f"zone {zone.name}"
    clusters = pods.list_clusters(connection, zone.id)
    if not pods.list_pods(connection, zone.id):
        raise wrong_state(what, "cannot be enabled: it has no pod", "add one with createPod")
    if not clusters:
        raise wrong_state(what, "cannot be enabled: it has no cluster", "add one with addCluster")
    of_hosts = {host.cluster_id for host in zones.list_hosts(connection, zone.id)}
    if not of_hosts & {cluster.id for cluster in clusters}:
        raise wrong_state(what, "cannot be enabled: it has no host", "add one with addHost")
    ranges = address_ranges.list_ranges(connection, zone.id)
    if not any(each.size for each in ranges if each.traffic_type is TrafficType.MANAGEMENT):
        raise wrong_state(
            what,
            "cannot be enabled: no pod has a range of management addresses",
            "add one with createManagementNetworkIpRange",
        )
    for kind in {each.traffic_type for each in ranges}:
        try:
            bridge_of(connection, zone.id, kind, labels)
        except IncompleteZoneError as error:
            raise wrong_state(what, f"cannot be enabled: {error.message}", error.hint) from error


def _add_control_range(connection: Connection, zone: Zone, labels: Mapping[str, HostNetwork]) -> None:
    """Add the link-local addresses of this host's control network."""
    networks = [network for network in labels.values() if network.is_control]
    found = [each for network in networks for each in network.addresses if each.version == 4]
    if not found:
        raise wrong_state(
            f"zone {zone.name}",
            "cannot be created: this host has no control network",
            "add a label with traffic_types: [control] and addresses: [169.254.0.1/16] to host.yaml",
        )
    own = IPv4Address(int(found[0].ip))
    last = min(int(found[0].network.broadcast_address) - 1, int(own) + LINK_LOCAL_ADDRESSES)
    address_ranges.rows.insert(
        connection,
        zone_id=zone.id,
        traffic_type=TrafficType.CONTROL.value,
        cidr=str(found[0].network),
        gateway=str(own),
        first=str(own + 1),
        last=str(IPv4Address(last)),
    )


def _names(connection: Connection) -> list[str]:
    return [zone.name for zone in zones.list_zones(connection)]


def architecture(text: str) -> str:
    """Return an architecture by any of its names. Raises: ModelError when it is not one."""
    try:
        return Architecture.of(text).value
    except ValueError as error:
        raise invalid("arch", str(error), "use amd64 or arm64") from error


def _servers(parameter: str, texts: list[str]) -> list[str]:
    try:
        return [str(IPv4Address(text.strip())) for text in texts]
    except ValueError:
        hint = "write it as 10.11.0.2"
        raise invalid(parameter, f"{', '.join(texts)[:64]!r} is not an IPv4 address", hint) from None


def _servers6(parameter: str, texts: list[str]) -> list[str]:
    try:
        return [str(IPv6Address(text.strip())) for text in texts]
    except ValueError:
        hint = "write it as 2001:db8::53"
        raise invalid(parameter, f"{', '.join(texts)[:64]!r} is not an IPv6 address", hint) from None


def _machines(connection: Connection, zone: Zone) -> list[str]:
    c = schema.vm_instances.c
    found = instances.rows.all(connection, c.zone_id == zone.id, c.removed.is_(None), limit=100)
    return [vm.instance_name for vm in found]

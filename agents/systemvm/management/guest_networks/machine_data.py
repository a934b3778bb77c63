# SPDX-License-Identifier: Apache-2.0
"""What the metadata service answers a machine: CloudStack's meta-data, and the user data of its owner."""

from __future__ import annotations

from systemvm.host.guest_services import GuestData
from systemvm.management.guest_networks.composition import domain_of
from systemvm.management.state import guest_nics, instances, machine_data, offerings, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.guest_nics import GuestNic


def data_of(connection: Connection, vm_id: int) -> list[tuple[GuestNic, GuestData]]:
    """Return the data of a machine by the NIC that it asks from; nothing when it has no address."""
    vm = instances.by_id(connection, vm_id)
    zone = zones.zone_by_id(connection, vm.zone_id)
    offering = offerings.of_vm(vm, offerings.list_service_offerings(connection))
    user_data = machine_data.user_data_of(connection, vm_id)
    found = []
    for nic in guest_nics.list_addressed(connection, vm_id):
        items = {
            "service-offering": offering.name,
            "availability-zone": zone.name,
            "local-ipv4": str(nic.address),
            "local-hostname": vm.name,
            "public-ipv4": str(nic.address),
            "public-hostname": f"{vm.name}.{domain_of(zone)}",
            "instance-id": vm.uuid,
            "vm-id": vm.uuid,
        }
        found.append((nic, GuestData(items, user_data)))
    return found

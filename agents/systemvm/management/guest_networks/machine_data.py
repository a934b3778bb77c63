# SPDX-License-Identifier: Apache-2.0
"""What the metadata service answers a machine: CloudStack's meta-data, and the user data of its owner."""

from __future__ import annotations

from systemvm.host.guest_services import GuestData, GuestPassword
from systemvm.management.guest_networks.composition import domain_of
from systemvm.management.pki.seal import Seal
from systemvm.management.state import (
    guest_nics,
    instances,
    machine_data,
    machine_passwords,
    offerings,
    zones,
)
from systemvm.management.state.database import Connection
from systemvm.management.state.guest_nics import GuestNic


def data_of(connection: Connection, vm_id: int, seal: Seal) -> list[tuple[GuestNic, GuestData]]:
    """Return the data of a machine by the NIC that it asks from; nothing when it has no address.

    Its password waits where its default route goes: it is taken once.

    Raises: KeystoreError when the password was sealed with another key.
    """
    vm = instances.by_id(connection, vm_id)
    zone = zones.zone_by_id(connection, vm.zone_id)
    offering = offerings.of_vm(vm, offerings.list_service_offerings(connection))
    user_data = machine_data.user_data_of(connection, vm_id)
    password = _password_of(connection, vm_id, seal)
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
        found.append((nic, GuestData(items, user_data, password if nic.device == 0 else None)))
    return found


def _password_of(connection: Connection, vm_id: int, seal: Seal) -> GuestPassword | None:
    found = machine_passwords.of_vm(connection, vm_id)
    if found is None or found.sealed is None:
        return None
    return GuestPassword(found.uuid, seal.open(found.sealed))

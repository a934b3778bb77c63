# SPDX-License-Identifier: Apache-2.0
"""What a guest may read: CloudStack's meta-data, the user data of its owner, and its password.

A machine whose first NIC has an address of the cloud asks the metadata service; any other one has a config
drive.
"""

from __future__ import annotations

from twisted.logger import Logger

from systemvm.host.guest_services import GuestData, GuestPassword
from systemvm.management.guest_networks.composition import domain_of
from systemvm.management.guest_networks.config_drive import ConfigDrive, DriveNic
from systemvm.management.pki.keystore import KeystoreError
from systemvm.management.pki.seal import Seal
from systemvm.management.state import (
    guest_networks,
    guest_nics,
    instances,
    machine_data,
    machine_passwords,
    offerings,
    zones,
)
from systemvm.management.state.database import Connection
from systemvm.management.state.guest_networks import GuestNetwork
from systemvm.management.state.guest_nics import GuestNic

_DEFAULT_NIC = 0
_log = Logger()


def data_of(connection: Connection, vm_id: int, seal: Seal) -> list[tuple[GuestNic, GuestData]]:
    """Return the data of a machine by the NIC that it asks from; nothing when it has no address.

    Its password waits where its default route goes: it is taken once.

    Raises: KeystoreError when the password was sealed with another key.
    """
    items = _items_of(connection, vm_id)
    user_data = machine_data.user_data_of(connection, vm_id)
    password = _password_of(connection, vm_id, seal)
    found = []
    for nic in guest_nics.list_addressed(connection, vm_id):
        addresses = {"local-ipv4": str(nic.address), "public-ipv4": str(nic.address)}
        data = GuestData({**items, **addresses}, user_data, password if nic.device == _DEFAULT_NIC else None)
        found.append((nic, data))
    return found


def has_config_drive(connection: Connection, vm_id: int) -> bool:
    """Return whether a machine cannot ask the metadata service where its default route goes."""
    return all(nic.device != _DEFAULT_NIC for nic in guest_nics.list_addressed(connection, vm_id))


def config_drive_of(connection: Connection, vm_id: int, seal: Seal) -> ConfigDrive | None:
    """Return the config drive of a machine that is started now; None when it has none.

    A password that was sealed with another key is left out: the machine starts without it.
    """
    if not has_config_drive(connection, vm_id):
        return None
    password = None
    try:
        password = _password_of(connection, vm_id, seal)
    except KeystoreError as error:
        _log.warn("config drive of machine {vm} has no password: {why}", vm=vm_id, why=error.message)
    return ConfigDrive(
        _items_of(connection, vm_id),
        [DriveNic(nic.device, nic.mac, nic.uuid) for nic in instances.nics_of(connection, vm_id)],
        machine_data.user_data_of(connection, vm_id),
        None if password is None else password.text,
    )


def _items_of(connection: Connection, vm_id: int) -> dict[str, str]:
    """Return CloudStack's meta-data of a machine, without addresses."""
    vm = instances.by_id(connection, vm_id)
    zone = zones.zone_by_id(connection, vm.zone_id)
    offering = offerings.of_vm(vm, offerings.list_service_offerings(connection))
    return {
        "service-offering": offering.name,
        "availability-zone": zone.name,
        "local-hostname": vm.name,
        "public-hostname": f"{vm.name}.{domain_of(zone, _default_network(connection, vm_id))}",
        "instance-id": vm.uuid,
        "vm-id": vm.uuid,
    }


def _default_network(connection: Connection, vm_id: int) -> GuestNetwork | None:
    """Return the network of a machine's first NIC; None for the zone's own."""
    numbers = [nic.guest_network_id for nic in instances.nics_of(connection, vm_id)[:1]]
    found = guest_networks.by_ids(connection, numbers)
    return next(iter(found.values()), None)


def _password_of(connection: Connection, vm_id: int, seal: Seal) -> GuestPassword | None:
    found = machine_passwords.of_vm(connection, vm_id)
    if found is None or found.sealed is None:
        return None
    return GuestPassword(found.uuid, seal.open(found.sealed))

# SPDX-License-Identifier: Apache-2.0
"""Service offerings, which are sizes of VMs, and disk offerings, which are sizes of volumes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.state import schema
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import Rows
from systemvm.management.state.status import InstanceType

CPU_MHZ = 500
#: Storage types: disks are in the directory of their host, or in a storage pool.
LOCAL, SHARED = "local", "shared"
_NAMESPACE = uuid.UUID("6f4f3a5e-5d0e-4c52-9a8e-0f1f4f7f2a10")
#: Name, vCPUs and MiB of the offerings that every installation begins with.
FIRST = (("tiny", 1, 128), ("small", 1, 512), ("medium", 1, 1024), ("large", 2, 2048))


@frozen
class ServiceOffering:
    id: int
    uuid: str
    name: str
    display_text: str
    vcpus: int
    cpu_mhz: int
    memory_mib: int
    storage_type: str
    provisioning_type: str
    tags: str  # of storage pools, comma-separated
    created: datetime
    removed: datetime | None


@frozen
class VmSize:
    """Id and name of the offering that a VM has by its size."""

    uuid: str
    name: str


@frozen
class DiskOffering:
    id: int
    uuid: str
    name: str
    display_text: str
    size_gib: int | None  # None: each volume's own
    storage_type: str
    provisioning_type: str
    tags: str  # of storage pools, comma-separated
    created: datetime
    removed: datetime | None


service_rows = Rows(schema.service_offerings, ServiceOffering, "service offering")
disk_rows = Rows(schema.disk_offerings, DiskOffering, "disk offering")
service_by_uuid = service_rows.by_uuid
disk_by_uuid = disk_rows.by_uuid
all_disk_offerings = disk_rows.all


def derived_uuid(name: str) -> str:
    """Return the id of an offering of every installation, which is derived from its name."""
    return str(uuid.uuid5(_NAMESPACE, name))


def add_first(connection: sa.Connection) -> None:
    """Create the first offerings, once: one that was deleted stays so."""
    known = {offering.uuid for offering in service_rows.all(connection)}
    for name, vcpus, memory_mib in FIRST:
        if derived_uuid(name) not in known:
            service_rows.insert(
                connection,
                uuid=derived_uuid(name),
                name=name,
                display_text=f"{name}: {vcpus} vCPU, {memory_mib} MiB",
                vcpus=vcpus,
                cpu_mhz=CPU_MHZ,
                memory_mib=memory_mib,
            )
    if CUSTOM_DISK not in {offering.uuid for offering in disk_rows.all(connection)}:
        disk_rows.insert(
            connection, uuid=CUSTOM_DISK, name="Custom", display_text="a data volume of any size"
        )


def list_service_offerings(connection: sa.Connection) -> list[ServiceOffering]:
    return service_rows.all(connection, schema.service_offerings.c.removed.is_(None))


_SYSTEM = {
    InstanceType.CONSOLE_PROXY: "System Offering For Console Proxy",
    InstanceType.SECONDARY_STORAGE: "System Offering For Secondary Storage VM",
}
#: The id of the first disk offering, whose users choose the size. Clients such as Libcloud cannot create a
#: volume without any offering.
CUSTOM_DISK = derived_uuid("Custom disk")
#: The offering of VMs with another size; its id depends on its name only.
CUSTOM = VmSize(derived_uuid("custom"), "custom")


def of_vm(vm: Instance, known: Sequence[ServiceOffering]) -> VmSize:
    """Return the offering with a VM's size; a system VM's is of its type."""
    if vm.type.is_system:
        return VmSize(derived_uuid(_SYSTEM[vm.type]), _SYSTEM[vm.type])
    return of_size(vm.vcpus, vm.memory_mib, known)


def of_size(vcpus: int, memory_mib: int, known: Sequence[ServiceOffering]) -> VmSize:
    """Return the offering with a size of users' VMs."""
    offering = _with_size(vcpus, memory_mib, known)
    return CUSTOM if offering is None else VmSize(offering.uuid, offering.name)


def storage_tags_of(vm: Instance, known: Sequence[ServiceOffering]) -> str:
    """Return the tags that the pool of a VM's root disk must have, comma-separated."""
    offering = None if vm.type.is_system else _with_size(vm.vcpus, vm.memory_mib, known)
    return "" if offering is None else offering.tags


def _with_size(vcpus: int, memory_mib: int, known: Sequence[ServiceOffering]) -> ServiceOffering | None:
    size = (vcpus, memory_mib)
    return next((each for each in known if (each.vcpus, each.memory_mib) == size), None)


def list_disk_offerings(connection: sa.Connection) -> list[DiskOffering]:
    return disk_rows.all(connection, schema.disk_offerings.c.removed.is_(None))

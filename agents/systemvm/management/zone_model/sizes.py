# SPDX-License-Identifier: Apache-2.0
"""Creates, changes and deletes service offerings. Each function is one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from systemvm.management.state import offerings
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.offerings import CPU_MHZ, DiskOffering, ServiceOffering
from systemvm.management.state.status import Provisioning
from systemvm.management.zone_model.pools import read_tags
from systemvm.management.zone_model.refusals import check_name, invalid

MAX_VCPUS = 64
MIN_MEMORY_MIB, MAX_MEMORY_MIB = 32, 1 << 20


def create_offering(
    connection: Connection,
    *,
    name: str,
    display_text: str | None,
    vcpus: int,
    memory_mib: int,
    storage_type: str,
    provisioning: Provisioning,
    tags: str,
) -> ServiceOffering:
    """Create an offering. Raises: ModelError when a value cannot be, or another has its name or size."""
    known = offerings.list_service_offerings(connection)
    wanted = check_name("name", name, [each.name for each in known])
    if not 1 <= vcpus <= MAX_VCPUS:
        raise invalid("cpunumber", f"must be 1 to {MAX_VCPUS}: {vcpus}", f"send 1 to {MAX_VCPUS}")
    if not MIN_MEMORY_MIB <= memory_mib <= MAX_MEMORY_MIB:
        why = f"must be {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB} MiB: {memory_mib}"
        raise invalid("memory", why, f"send {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB}")
    for other in known:
        if (other.vcpus, other.memory_mib) == (vcpus, memory_mib):
            raise invalid(
                "memory",
                f"offering {other.name} has {vcpus} vCPU and {memory_mib} MiB already",
                "use that offering, or choose another size",
            )
    return offerings.service_rows.insert(
        connection,
        name=wanted,
        display_text=display_text or f"{wanted}: {vcpus} vCPU, {memory_mib} MiB",
        vcpus=vcpus,
        cpu_mhz=CPU_MHZ,
        memory_mib=memory_mib,
        storage_type=storage_type,
        provisioning_type=provisioning.value,
        tags=read_tags(tags),
    )


def update_offering(
    connection: Connection, offering: ServiceOffering, *, name: str | None, display_text: str | None
) -> ServiceOffering:
    """Change what is not None. Raises: ModelError when another has the name."""
    changes = text_changes(offering, offerings.list_service_offerings(connection), name, display_text)
    return offerings.service_rows.update(connection, offering.id, **changes) if changes else offering


def delete_offering(connection: Connection, offering: ServiceOffering) -> None:
    offerings.service_rows.update(connection, offering.id, removed=now())


def text_changes(
    own: ServiceOffering | DiskOffering,
    known: Sequence[ServiceOffering | DiskOffering],
    name: str | None,
    display_text: str | None,
) -> dict[str, str]:
    """Return the columns that a new name and text change. Raises: ModelError when another has the name."""
    changes: dict[str, str] = {}
    if name is not None:
        changes["name"] = check_name("name", name, [each.name for each in known if each.id != own.id])
    if display_text is not None:
        changes["display_text"] = display_text
    return changes

# SPDX-License-Identifier: Apache-2.0
"""Creates, changes and deletes disk offerings, the sizes of volumes. Each function is one transaction."""

from __future__ import annotations

from systemvm.management.state import offerings
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.offerings import DiskOffering
from systemvm.management.state.status import Provisioning
from systemvm.management.virtual_machines.deployment import GIB, MAX_DISK_BYTES
from systemvm.management.zone_model.pools import read_tags
from systemvm.management.zone_model.refusals import check_name, invalid
from systemvm.management.zone_model.sizes import text_changes

MAX_GIB = MAX_DISK_BYTES // GIB


def create_disk_offering(
    connection: Connection,
    *,
    name: str,
    display_text: str | None,
    size_gib: int | None,
    is_customized: bool,
    storage_type: str,
    provisioning: Provisioning,
    tags: str,
) -> DiskOffering:
    """Create an offering of one size, or one whose users choose the size.

    Raises: ModelError when a value cannot be, or another has its name.
    """
    known = offerings.list_disk_offerings(connection)
    wanted = check_name("name", name, [each.name for each in known])
    if is_customized and size_gib is not None:
        raise invalid("disksize", "cannot be set: customized=true has users choose the size", "omit disksize")
    if not is_customized and size_gib is None:
        raise invalid("disksize", "is missing", f"send 1 to {MAX_GIB} GiB, or customized=true")
    if size_gib is not None and not 1 <= size_gib <= MAX_GIB:
        raise invalid("disksize", f"must be 1 to {MAX_GIB} GiB: {size_gib}", f"send 1 to {MAX_GIB}")
    size = "a size of its user's choice" if size_gib is None else f"{size_gib} GiB"
    return offerings.disk_rows.insert(
        connection,
        name=wanted,
        display_text=display_text or f"{wanted}: {size}",
        size_gib=size_gib,
        storage_type=storage_type,
        provisioning_type=provisioning.value,
        tags=read_tags(tags),
    )


def update_disk_offering(
    connection: Connection, offering: DiskOffering, *, name: str | None, display_text: str | None
) -> DiskOffering:
    """Change what is not None. Raises: ModelError when another has the name."""
    changes = text_changes(offering, offerings.list_disk_offerings(connection), name, display_text)
    return offerings.disk_rows.update(connection, offering.id, **changes) if changes else offering


def delete_disk_offering(connection: Connection, offering: DiskOffering) -> None:
    offerings.disk_rows.update(connection, offering.id, removed=now())

# SPDX-License-Identifier: Apache-2.0
"""The volume or snapshot that a command names, if its caller has access to it."""

from __future__ import annotations

from systemvm.management.api.command import ApiCall
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.principal import Principal
from systemvm.management.state import snapshots, volumes, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.volumes import Volume

MAX_NAME_CHARACTERS = 255


def own_volume(connection: Connection, uuid: str, principal: Principal) -> Volume:
    """Return a volume that the caller has access to.

    Raises: ApiError 401 for another account's, NotFoundError when there is none.
    """
    volume = volumes.by_uuid(connection, uuid)
    if not principal.may_use(volume.account_id):
        raise unauthorized(f"account {principal.account.name} must not use this volume", value=uuid)
    return volume


def own_snapshot(connection: Connection, uuid: str, principal: Principal) -> Snapshot:
    """Return a snapshot that the caller has access to.

    Raises: ApiError 401 for another account's, NotFoundError when there is none.
    """
    snapshot = snapshots.by_uuid(connection, uuid)
    if not principal.may_use(snapshot.account_id):
        raise unauthorized(f"account {principal.account.name} must not use this snapshot", value=uuid)
    return snapshot


def own_snapshot_in(
    connection: Connection, uuid: str, zone_uuid: str | None, principal: Principal
) -> Snapshot:
    """Return a snapshot, or its copy in the zone that is named.

    Raises: ApiError 431 when that zone has none.
    """
    snapshot = own_snapshot(connection, uuid, principal)
    if zone_uuid is None:
        return snapshot
    zone = zones.zone_by_uuid(connection, zone_uuid)
    if snapshot.zone_id == zone.id:
        return snapshot
    found = snapshots.copies_of(connection, snapshot.id, zone.id)
    if not found:
        raise parameter_error(
            "zoneid",
            f"zoneid: snapshot {snapshot.name} is not in zone {zone.name}",
            "copy it there with copySnapshot, or omit zoneid",
        )
    return found[0]


def name_of(call: ApiCall) -> str | None:
    name = call.arguments.text("name")
    if name is not None and len(name) > MAX_NAME_CHARACTERS:
        raise parameter_error(
            "name",
            f"Invalid value for parameter name: it has {len(name)} characters, the maximum is"
            f" {MAX_NAME_CHARACTERS}",
        )
    return name

# SPDX-License-Identifier: Apache-2.0
"""The volume or snapshot that a command names, if its caller has access to it."""

from __future__ import annotations

from systemvm.management.api.command import ApiCall
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.principal import Principal
from systemvm.management.state import snapshots, volumes
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
        raise unauthorized(f"account {principal.account.name} must not use this volume")
    return volume


def own_snapshot(connection: Connection, uuid: str, principal: Principal) -> Snapshot:
    """Return a snapshot that the caller has access to.

    Raises: ApiError 401 for another account's, NotFoundError when there is none.
    """
    snapshot = snapshots.by_uuid(connection, uuid)
    if not principal.may_use(snapshot.account_id):
        raise unauthorized(f"account {principal.account.name} must not use this snapshot")
    return snapshot


def name_of(call: ApiCall) -> str | None:
    name = call.arguments.text("name")
    if name is not None and len(name) > MAX_NAME_CHARACTERS:
        raise parameter_error(
            f"Invalid value for parameter name: it has {len(name)} characters, the maximum is"
            f" {MAX_NAME_CHARACTERS}"
        )
    return name

# SPDX-License-Identifier: Apache-2.0
"""The changes of snapshot policies in the database. Each function is one transaction."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from attrs import frozen

from systemvm.management.configurations.snapshots import MOST_KEPT, of_zone
from systemvm.management.snapshots import transitions
from systemvm.management.snapshots.errors import SnapshotRequestError
from systemvm.management.snapshots.schedule import Interval, Schedule
from systemvm.management.snapshots.transitions import NewSnapshot
from systemvm.management.state import accounts, events, instances, snapshot_policies, snapshots, volumes
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.snapshot_policies import SnapshotPolicy
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.volumes import Volume
from systemvm.management.templates.store_choice import StoreSettings
from systemvm.management.volumes.transitions import check_usable
from systemvm.service.errors import SystemVmError


@frozen
class NewPolicy:
    """The request of a user; `volume_id` is of an existing row."""

    volume_id: int
    interval: Interval
    schedule: str
    timezone: str
    max_snapshots: int
    user_id: int


def put(connection: Connection, new: NewPolicy) -> SnapshotPolicy:
    """Create the policy of a volume and interval, or change it.

    Raises: SnapshotRequestError when a value cannot be, VolumeStateError for a volume without a file.
    """
    volume = volumes.by_id(connection, new.volume_id)
    check_usable(volume, "volumeid")
    zone = _time_zone(new.timezone)
    schedule = Schedule.parse(new.interval, new.schedule)
    interval = new.interval.value
    most = of_zone(connection, volume.zone_id).most_kept[interval]
    if not 1 <= new.max_snapshots <= most:
        raise SnapshotRequestError(
            f"maxsnaps: {new.max_snapshots} is not 1 to {most}",
            f"choose 1 to {most}, or have an administrator raise {MOST_KEPT[interval].name}",
            parameter="maxsnaps",
        )
    values = {
        "schedule": new.schedule,
        "timezone": new.timezone,
        "max_snapshots": new.max_snapshots,
        "next_run": schedule.next_after(now(), zone),
    }
    known = snapshot_policies.of_volume(connection, volume.id, interval)
    if known is not None:
        policy = snapshot_policies.update(connection, known.id, **values)
    else:
        policy = snapshot_policies.insert(
            connection,
            account_id=volume.account_id,
            domain_id=volume.domain_id,
            zone_id=volume.zone_id,
            volume_id=volume.id,
            interval_type=interval,
            **values,
        )
    text = f"has a {interval.lower()} policy: {new.schedule} {new.timezone}, {new.max_snapshots} are kept"
    _record(connection, volume, "SNAPSHOTPOLICY.CREATE", text, user_id=new.user_id)
    return policy


def remove(connection: Connection, policies: list[SnapshotPolicy], user_id: int) -> None:
    """Remove policies; the snapshots that they have taken stay."""
    for policy in policies:
        snapshot_policies.remove(connection, policy.id)
        volume = volumes.by_id(connection, policy.volume_id)
        text = f"has no {policy.interval_type.lower()} policy any more"
        _record(connection, volume, "SNAPSHOTPOLICY.DELETE", text, user_id=user_id)


def begin_due(
    connection: Connection, policy_id: int, moment: datetime, settings: StoreSettings
) -> Snapshot | None:
    """Set when a policy is due next, and create the snapshot that is due; None when there is none now.

    A turn is skipped while the snapshot of the turn before is still being taken, while the account is
    disabled, and while the VM is destroyed.
    """
    policy = snapshot_policies.by_id(connection, policy_id)
    if policy.next_run is None or policy.next_run > moment:
        return None
    schedule = Schedule.parse(Interval(policy.interval_type), policy.schedule)
    next_run = schedule.next_after(moment, _time_zone(policy.timezone))
    snapshot_policies.update(connection, policy.id, next_run=next_run)
    volume = volumes.by_id(connection, policy.volume_id)
    if (why := _reason_to_skip(connection, volume, policy)) is not None:
        _skip(connection, volume, policy, why)
        return None
    new = NewSnapshot(volume.id, None, None, policy.interval_type)
    try:
        return transitions.create(connection, new, settings)
    except SystemVmError as error:  # before it has changed anything
        _skip(connection, volume, policy, error.message)
        return None


def _reason_to_skip(connection: Connection, volume: Volume, policy: SnapshotPolicy) -> str | None:
    earlier = snapshots.of_interval(connection, volume.id, policy.interval_type)
    if any(not each.state.has_ended for each in earlier):
        return "the one before is still being taken"
    owner = accounts.account_by_id(connection, policy.account_id)
    if not owner.may_run_machines:
        return f"account {owner.name} is disabled"
    if volume.vm_id is not None and (vm := instances.by_id(connection, volume.vm_id)).state.is_gone:
        return f"{vm.name} is {vm.state.value}"
    return None


def _skip(connection: Connection, volume: Volume, policy: SnapshotPolicy, why: str) -> None:
    text = f"has no {policy.interval_type.lower()} snapshot of this turn: {why}"
    _record(connection, volume, "SNAPSHOT.CREATE", text, level="WARN")


def _time_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise SnapshotRequestError(
            f"timezone: {name[:64]!r} is not a time zone",
            "send a name such as Europe/Berlin or UTC",
            parameter="timezone",
        ) from None


def _record(
    connection: Connection,
    volume: Volume,
    event: str,
    text: str,
    *,
    user_id: int | None = None,
    level: str = "INFO",
) -> None:
    events.record(
        connection,
        event,
        f"volume {volume.name} {text}",
        account_id=volume.account_id,
        domain_id=volume.domain_id,
        user_id=user_id,
        zone_id=volume.zone_id,
        level=level,
        resource_type="Volume",
        resource_uuid=volume.uuid,
    )

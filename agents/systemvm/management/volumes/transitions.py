# SPDX-License-Identifier: Apache-2.0
"""The state transitions of volumes in the database, each with its event. Functions over a connection."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from systemvm.management.hypervisors.data_disks import UNITS
from systemvm.management.primary.pool_usage import Usages
from systemvm.management.resource_limits import limits
from systemvm.management.state import (
    accounts,
    events,
    instances,
    offerings,
    resource_counts,
    storage_pools,
    volume_list,
    volumes,
)
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection
from systemvm.management.state.instances import Instance
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.status import InstanceState, Provisioning, VolumeState
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.state.volumes import Volume
from systemvm.management.volumes.errors import VolumeRequestError, VolumeStateError
from systemvm.management.volumes.pool_choice import PoolWish, check_has_space, check_takes


@frozen
class NewVolume:
    """The request of a user; ids are of existing rows."""

    name: str
    size_bytes: int
    account_id: int
    domain_id: int
    user_id: int
    zone_id: int
    host_id: int
    disk_offering_id: int | None = None
    provisioning: Provisioning = Provisioning.THIN
    place: PoolWish | None = None  # None: the host's own directory


def create(connection: Connection, new: NewVolume) -> Volume:
    """Create the row of a data volume, which has no file yet.

    Raises: VolumeStateError when its owner is disabled, ResourceLimitError when it must not own more,
    NoPoolError when no pool takes it.
    """
    owner = accounts.account_by_id(connection, new.account_id)
    if not owner.may_run_machines:
        raise VolumeStateError(
            f"owner of the volume is disabled: {owner.name}",
            "enable the account, or use another one",
            parameter="account",
        )
    amounts = {ResourceType.volume: 1, ResourceType.primary_storage: new.size_bytes}
    limits.check(connection, owner.id, amounts)
    volume = volumes.create(
        connection,
        name=new.name,
        type=volumes.DATA,
        account_id=new.account_id,
        domain_id=new.domain_id,
        vm_id=None,
        zone_id=new.zone_id,
        host_id=new.host_id,
        pool_id=new.place.take(connection, new.size_bytes, new.provisioning) if new.place else None,
        size_bytes=new.size_bytes,
        disk_offering_id=new.disk_offering_id,
        provisioning=new.provisioning,
    )
    record(connection, volume, "VOLUME.CREATE", "is created", user_id=new.user_id)
    return volume


def set_ready(connection: Connection, volume_id: int, path: str) -> Volume:
    return volumes.update(connection, volume_id, state=VolumeState.READY, path=path)


def attach(connection: Connection, volume_id: int, vm: Instance, device_id: int | None) -> Volume:
    """Give a volume to a VM, with a free device number; does nothing when the VM has it already.

    Raises: VolumeStateError, VolumeRequestError for a device number that is taken or does not exist.
    """
    volume = volumes.by_id(connection, volume_id)
    check_usable(volume)
    if volume.vm_id == vm.id:
        return volume
    check_fits(volume, vm)
    taken = {each.device_id for each in volumes.data_of(connection, vm.id)}
    free = [unit for unit in UNITS if unit not in taken]
    if not free:
        raise VolumeStateError(
            f"virtualmachineid: {vm.name} has {len(taken)} data volumes, the maximum",
            "detach one first",
            parameter="virtualmachineid",
        )
    if device_id is not None and device_id not in free:
        raise VolumeRequestError(
            f"deviceid: {device_id} is not free on {vm.name}",
            f"omit it, or choose one of {', '.join(map(str, free))}",
            parameter="deviceid",
        )
    attached = volumes.update(
        connection, volume.id, vm_id=vm.id, device_id=device_id or free[0], attached=now()
    )
    record(connection, attached, "VOLUME.ATTACH", f"is attached to {vm.name}")
    return attached


def check_fits(volume: Volume, vm: Instance) -> None:
    """Check that a VM and a volume, which can be without a file, have one owner and one place.

    Raises: VolumeStateError, VolumeRequestError when they do not.
    """
    if volume.vm_id is not None:
        raise VolumeStateError(
            f"id: volume {volume.name} is attached to another VM",
            "detach it first with detachVolume",
            parameter="id",
        )
    if vm.state not in (InstanceState.RUNNING, InstanceState.STOPPED):
        raise VolumeStateError(
            f"virtualmachineid: {vm.name} is {vm.state.value}",
            "wait until it is Running or Stopped",
            parameter="virtualmachineid",
        )
    if volume.account_id != vm.account_id:
        raise VolumeRequestError(
            f"virtualmachineid: {vm.name} and volume {volume.name} have different owners",
            "attach it to a VM of its own account",
            parameter="virtualmachineid",
        )
    if volume.zone_id != vm.zone_id or vm.host_id not in (None, volume.host_id):
        raise VolumeRequestError(
            f"virtualmachineid: {vm.name} cannot reach volume {volume.name}, which is on another host's"
            " local storage",
            "attach it to a VM of the same host",
            parameter="virtualmachineid",
        )


def detach(connection: Connection, volume_id: int) -> Volume:
    volume = volumes.by_id(connection, volume_id)
    detached = volumes.update(connection, volume_id, vm_id=None, device_id=None, attached=None)
    if volume.vm_id is not None:
        record(connection, detached, "VOLUME.DETACH", "is detached")
    return detached


def check_growth(connection: Connection, volume: Volume, size_bytes: int, usages: Usages) -> None:
    """Check whether a volume can become this large.

    Raises: ResourceLimitError when its account, or a domain above it, would have too much primary storage,
    NoPoolError when its pool has no space for it.
    """
    more_bytes = size_bytes - resource_counts.bytes_of_volume(connection, volume.id)
    if more_bytes <= 0:
        return
    limits.check(connection, volume.account_id, {ResourceType.primary_storage: more_bytes})
    if volume.pool_id is not None:
        pool = storage_pools.by_id(connection, volume.pool_id)
        check_has_space(connection, pool, usages, more_bytes, volume.provisioning)


def claim_size(connection: Connection, volume_id: int, size_bytes: int, usages: Usages) -> None:
    """Give a volume the size that its disk gets now, so that nothing else takes that much of limit and pool.

    Raises: ResourceLimitError, NoPoolError as `check_growth` does.
    """
    storage_pools.lock(connection)
    check_growth(connection, volumes.by_id(connection, volume_id), size_bytes, usages)
    volumes.update(connection, volume_id, size_bytes=size_bytes)


def set_size(connection: Connection, volume_id: int, size_bytes: int) -> Volume:
    resized = volumes.update(connection, volume_id, size_bytes=size_bytes)
    record(connection, resized, "VOLUME.RESIZE", f"has {size_bytes} bytes")
    return resized


def set_moved(
    connection: Connection, volume_id: int, pool_id: int | None, path: str, usages: Usages
) -> Volume:
    """Put a volume in the pool that it was copied to.

    Raises: NoPoolError when that has no place for it any more.
    """
    if pool_id is not None:
        storage_pools.lock(connection)
        check_can_be_in(
            connection, volumes.by_id(connection, volume_id), storage_pools.by_id(connection, pool_id), usages
        )
    moved = volumes.update(connection, volume_id, pool_id=pool_id, path=path)
    record(connection, moved, "VOLUME.MIGRATE", "is moved to another storage pool")
    return moved


def check_can_be_in(connection: Connection, volume: Volume, pool: StoragePool, usages: Usages) -> None:
    """Check that a pool takes a volume that exists.

    Raises: NoPoolError with the reason when it does not.
    """
    size_bytes = volume_list.one(connection, volume).size_bytes or 0
    tags = storage_pools.tags_of(_tags_of_offering(connection, volume))
    check_takes(connection, pool, volume.host_id or 0, usages, size_bytes, tags, volume.provisioning)


def check_can_all_be_in(
    connection: Connection, moved: Sequence[Volume], pool: StoragePool, usages: Usages
) -> None:
    """Check that a pool has room for volumes of one host's machines together.

    Raises: NoPoolError with the reason when it does not.
    """
    fat = [volume for volume in moved if volume.provisioning is Provisioning.FAT]
    # of what can be allocated all need a part, and fat ones need as much free space, too
    for those, kind in ((moved, Provisioning.THIN), (fat, Provisioning.FAT)):
        if those:
            size_bytes = sum(volume_list.one(connection, each).size_bytes or 0 for each in those)
            host_id = those[0].host_id or 0
            check_takes(connection, pool, host_id, usages, size_bytes, provisioning=kind)


def _tags_of_offering(connection: Connection, volume: Volume) -> str:
    if volume.type == volumes.ROOT and volume.vm_id is not None:
        vm = instances.by_id(connection, volume.vm_id)
        return offerings.storage_tags_of(vm, offerings.list_service_offerings(connection))
    offering_id = volume.disk_offering_id
    return "" if offering_id is None else offerings.disk_rows.by_id(connection, offering_id).tags


def claim_deletion(connection: Connection, volume_id: int) -> Volume:
    """Mark a volume as one that is being deleted: from now on nothing else uses it.

    Raises: VolumeStateError when a VM has it.
    """
    volume = volumes.by_id(connection, volume_id)
    if volume.type != volumes.DATA:
        raise VolumeStateError(
            f"id: {volume.name} is the root disk of a VM",
            "destroy and expunge the VM instead",
            parameter="id",
        )
    if volume.vm_id is not None:
        raise VolumeStateError(
            f"id: volume {volume.name} is attached to a VM",
            "detach it first with detachVolume",
            parameter="id",
        )
    return volumes.update(connection, volume_id, state=VolumeState.DESTROYED)


def set_deleted(connection: Connection, volume: Volume) -> None:
    volumes.remove(connection, volume.id)
    record(connection, volume, "VOLUME.DELETE", "is deleted")


def check_usable(volume: Volume, parameter: str = "id") -> None:
    """Check that a volume has a file and is not being deleted; `parameter` of the command names it.

    Raises: VolumeStateError when it is not.
    """
    if volume.removed is not None or volume.state is VolumeState.DESTROYED:
        raise VolumeStateError(
            f"{parameter}: volume {volume.name} was deleted",
            "choose one that listVolumes returns",
            parameter=parameter,
        )
    if volume.state is VolumeState.UPLOADED:
        raise VolumeStateError(
            f"{parameter}: volume {volume.name} is on secondary storage only",
            "attach it to a VM once",
            parameter=parameter,
        )
    if volume.state is VolumeState.UPLOAD_ERROR:
        raise VolumeStateError(
            f"{parameter}: upload of volume {volume.name} has failed: see listEvents",
            "delete it, and upload it again",
            parameter=parameter,
        )
    if volume.state is not VolumeState.READY:
        hint = "start its VM once" if volume.type == volumes.ROOT else "wait until it is Ready"
        raise VolumeStateError(
            f"{parameter}: volume {volume.name} is {volume.state.value}", hint, parameter=parameter
        )


def record(
    connection: Connection, volume: Volume, event: str, text: str, *, user_id: int | None = None
) -> None:
    events.record(
        connection,
        event,
        f"{volume.name} {text}",
        account_id=volume.account_id,
        domain_id=volume.domain_id,
        user_id=user_id,
        zone_id=volume.zone_id,
        resource_type="Volume",
        resource_uuid=volume.uuid,
    )

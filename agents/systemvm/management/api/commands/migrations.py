# SPDX-License-Identifier: Apache-2.0
"""migrateVolume, migrateVirtualMachine: one volume, or all of a stopped VM, is moved to another pool.

One daemon drives one host, so there is no other host that a VM could go to. What names a host is refused with
CloudStack's texts (UserVmManagerImpl: migrateVirtualMachine, vmStorageMigration), which tell local storage
from shared.
"""

from __future__ import annotations

from typing import Any

from systemvm.management.api.answers.machines import VirtualMachineAnswer
from systemvm.management.api.answers.volumes import VolumeAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands import machine_answers
from systemvm.management.api.commands import volumes as volume_commands
from systemvm.management.api.commands.virtual_machines import own_machine
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import ApiError, parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, only, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.primary.pool_service import StoragePools
from systemvm.management.primary.pool_usage import Usages
from systemvm.management.state import instances, storage_pools, volumes, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.state.volumes import Volume
from systemvm.management.volumes.migration import VolumeMigration, check_movable
from systemvm.management.volumes.transitions import check_can_all_be_in, check_can_be_in

_VOLUME, _MACHINE = "migrateVolume", "migrateVirtualMachine"


class MigrationCommands:
    """The handlers of these commands, and their jobs."""

    def __init__(
        self, database: Database, migration: VolumeMigration, pools: StoragePools, jobs: JobRunner
    ) -> None:
        self._database = database
        self._migration = migration
        self._pools = pools
        self._jobs = jobs
        jobs.register(_VOLUME, self._run_volume, resumes=True)
        jobs.register(_MACHINE, self._run_machine, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        uuid = ParameterType.UUID
        return (
            Command(
                _VOLUME, self._start_volume,
                "Copies a volume to another storage pool and deletes it in its own; its VM must be stopped.",
                VolumeAnswer, "volume", ResponseShape.ASYNC,
                (
                    required("volumeid", uuid, "UUID of the volume; see listVolumes"),
                    required("storageid", uuid, "UUID of the storage pool; see listStoragePools"),
                    only("livemigrate", ParameterType.BOOLEAN, "move it while its VM runs", False),
                ),
                roles=ADMIN_ONLY, related=("listStoragePools", "listVolumes"),
            ),
            Command(
                _MACHINE, self._start_machine,
                "Moves all volumes of a stopped VM to another storage pool; no VM can go to another host.",
                VirtualMachineAnswer, "virtualmachine", ResponseShape.ASYNC,
                (
                    required("virtualmachineid", uuid, "the virtual machine"),
                    optional("storageid", uuid, "the storage pool for its volumes; see listStoragePools"),
                    optional("hostid", uuid, "the host to move it to"),
                    optional("autoselect", ParameterType.BOOLEAN, "let the daemon choose the host"),
                ),
                roles=ADMIN_ONLY, related=("listVirtualMachines", "listStoragePools", "migrateVolume"),
            ),
        )  # fmt: skip

    async def _start_volume(self, call: ApiCall) -> StartedJob:
        usages = await self._pools.usages()
        arguments = call.arguments
        volume, target = await self._database.read(
            _checked_volume, arguments["volumeid"], arguments["storageid"], usages
        )
        job = {"id": volume.id, "source": volume.pool_id, "target": target}
        return await start_job(self._jobs, call, _VOLUME, job, about="Volume", uuid=volume.uuid)

    async def _run_volume(self, running: RunningJob) -> dict[str, Any]:
        wanted = running.job.arguments
        await self._migration.delete_incomplete(wanted["id"], wanted["target"])
        usages = await self._pools.usages()
        volume = await self._migration.migrate(wanted["id"], wanted["source"], wanted["target"], usages)
        return {"volume": plain(await self._database.read(volume_commands.answer_for, volume))}

    async def _start_machine(self, call: ApiCall) -> StartedJob:
        usages = await self._pools.usages()
        vm, moves, target = await self._database.read(_checked_machine, call, usages)
        job = {"id": vm.id, "volumes": [[each.id, each.pool_id] for each in moves], "target": target}
        return await start_job(self._jobs, call, _MACHINE, job, about="VirtualMachine", uuid=vm.uuid)

    async def _run_machine(self, running: RunningJob) -> dict[str, Any]:
        wanted = running.job.arguments
        moves = wanted["volumes"]
        for volume_id, _ in moves:
            await self._migration.delete_incomplete(volume_id, wanted["target"])
        for number, (volume_id, source) in enumerate(moves):
            running.progress(100 * number // len(moves), f"Moving volume {number + 1} of {len(moves)}")
            usages = await self._pools.usages()
            await self._database.read(_check_room, [volume for volume, _ in moves], wanted["target"], usages)
            await self._migration.migrate(volume_id, source, wanted["target"], usages)
        vm = await self._database.read(instances.by_id, wanted["id"])
        return {"virtualmachine": plain(await self._database.read(machine_answers.answer_for, vm))}


def _checked_volume(
    connection: Connection, volume_uuid: str, pool_uuid: str, usages: Usages
) -> tuple[Volume, int | None]:
    """Return a volume and the number of the pool that it can be moved to.

    Raises: VolumeError with the reason when it cannot.
    """
    volume = volumes.by_uuid(connection, volume_uuid)
    return volume, _check_target(connection, volume, pool_uuid, usages)


def _check_target(connection: Connection, volume: Volume, pool_uuid: str, usages: Usages) -> int | None:
    """Return the number of a pool that a volume can be moved to, or None for its host's own directory.

    Raises: VolumeError with the reason when it cannot.
    """
    pool = storage_pools.by_uuid(connection, pool_uuid)
    target = None if pool.is_own_directory else pool.id
    check_movable(connection, volume)
    if target != volume.pool_id or (pool.is_own_directory and pool.host_id != volume.host_id):
        check_can_be_in(connection, volume, pool, usages)
    return target


def _checked_machine(
    connection: Connection, call: ApiCall, usages: Usages
) -> tuple[Instance, list[Volume], int | None]:
    """Return a VM, those of its volumes that are not in the pool yet, and the pool's number.

    Raises: ApiError 431 and VolumeError with the reason when they cannot be moved.
    """
    arguments = call.arguments
    vm = own_machine(connection, arguments["virtualmachineid"], call.principal)
    if "hostid" in arguments and "storageid" in arguments:
        raise parameter_error(
            "storageid", "Only one of hostId and storageId can be specified", "omit one of them"
        )
    if "storageid" not in arguments:
        raise _why_not_to_a_host(connection, vm, arguments.get("hostid"), arguments.flag("autoselect"))
    if vm.state is not InstanceState.STOPPED:
        raise parameter_error(
            "virtualmachineid",
            f"VM is not Stopped, unable to migrate the vm {vm.name}",
            "call stopVirtualMachine first",
        )
    root = volumes.root_of(connection, vm.id)
    disks = [*([root] if root else []), *volumes.data_of(connection, vm.id)]
    targets = [_check_target(connection, volume, arguments["storageid"], usages) for volume in disks]
    pool = storage_pools.by_uuid(connection, arguments["storageid"])
    target = None if pool.is_own_directory else pool.id
    moves = [volume for volume, to in zip(disks, targets, strict=True) if volume.pool_id != to]
    check_can_all_be_in(connection, moves, pool, usages)
    return vm, moves, target


def _check_room(connection: Connection, volume_ids: list[int], target: int | None, usages: Usages) -> None:
    """Check that a pool has room for those of the volumes that are not in it yet, before one is copied.

    Raises: NoPoolError when it does not.
    """
    if target is None:
        return  # the host's own directory takes all
    disks = [volumes.by_id(connection, volume_id) for volume_id in volume_ids]
    left = [volume for volume in disks if volume.pool_id != target and volume.removed is None]
    check_can_all_be_in(connection, left, storage_pools.by_id(connection, target), usages)


def _why_not_to_a_host(connection: Connection, vm: Instance, host_uuid: str | None, chosen: bool) -> ApiError:
    if host_uuid is None and not chosen:
        return parameter_error(
            "storageid",
            "Either hostId or storageId must be specified",
            "give storageid, the pool to move its volumes to",
        )
    host = None if host_uuid is None else zones.host_rows.by_uuid(connection, host_uuid)
    if vm.state is not InstanceState.RUNNING:
        return parameter_error(
            "virtualmachineid",
            f"VM is not Running, unable to migrate the vm {vm.name}",
            "give storageid to move its volumes",
        )
    if host is not None and host.id == vm.host_id:
        return parameter_error(
            "hostid",
            "Cannot migrate VM, VM is already present on this host,"
            " please specify valid destination host to migrate the VM",
            "omit hostid, and give storageid to move its volumes",
        )
    root = volumes.root_of(connection, vm.id)
    if root is None or root.pool_id is None or storage_pools.rows.by_id(connection, root.pool_id).is_local:
        return parameter_error(
            "virtualmachineid",
            "Unsupported operation, VM uses Local storage, cannot migrate",
            "stop it, and move its volumes to a shared pool by storageid",
        )
    return parameter_error(
        "autoselect" if host is None else "hostid",
        "Unable to find suitable destination to migrate VM: no other host runs machines of this daemon",
        "stop it and start it again, when its host has not enough room",
    )

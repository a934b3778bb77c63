# SPDX-License-Identifier: Apache-2.0
"""migrateVirtualMachine: moves the disks of a stopped VM to another pool.

One daemon drives one host, so there is no other host that a VM could go to. What names a host is refused with
CloudStack's texts (UserVmManagerImpl: migrateVirtualMachine, vmStorageMigration), which tell local storage
from shared.
"""

from __future__ import annotations

from typing import Any

from systemvm.management.api.answers.machines import VirtualMachineAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.machine_answers import answer_for
from systemvm.management.api.commands.virtual_machines import own_machine
from systemvm.management.api.commands.volume_migration import check_target
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import ApiError, parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.primary.pool_service import StoragePools
from systemvm.management.primary.pool_usage import Usages
from systemvm.management.state import instances, storage_pools, volumes, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.management.state.volumes import Volume
from systemvm.management.volumes.migration import VolumeMigration
from systemvm.management.volumes.transitions import check_can_all_be_in

_COMMAND = "migrateVirtualMachine"


class MachineMigrationCommands:
    """The handler of the command, and its job."""

    def __init__(
        self, database: Database, migration: VolumeMigration, pools: StoragePools, jobs: JobRunner
    ) -> None:
        self._database = database
        self._migration = migration
        self._pools = pools
        self._jobs = jobs
        jobs.register(_COMMAND, self._run, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        uuid = ParameterType.UUID
        return (
            Command(
                _COMMAND, self._start,
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

    async def _start(self, call: ApiCall) -> StartedJob:
        usages = await self._pools.usages()
        vm, moves, target = await self._database.read(_checked, call, usages)
        job = {"id": vm.id, "volumes": [[each.id, each.pool_id] for each in moves], "target": target}
        return await start_job(self._jobs, call, _COMMAND, job, about="VirtualMachine", uuid=vm.uuid)

    async def _run(self, running: RunningJob) -> dict[str, Any]:
        wanted = running.job.arguments
        moves = wanted["volumes"]
        for number, (volume_id, source) in enumerate(moves):
            running.progress(100 * number // len(moves), f"Moving volume {number + 1} of {len(moves)}")
            usages = await self._pools.usages()
            await self._database.read(_check_room, [volume for volume, _ in moves], wanted["target"], usages)
            await self._migration.migrate(volume_id, source, wanted["target"], usages)
        vm = await self._database.read(instances.by_id, wanted["id"])
        return {"virtualmachine": plain(await self._database.read(answer_for, vm))}


def _checked(
    connection: Connection, call: ApiCall, usages: Usages
) -> tuple[Instance, list[Volume], int | None]:
    """Return a VM, those of its volumes that are not in the pool yet, and the pool's number.

    Raises: ApiError 431 and VolumeError with the reason when they cannot be moved.
    """
    arguments = call.arguments
    vm = own_machine(connection, arguments["virtualmachineid"], call.principal)
    if "hostid" in arguments and "storageid" in arguments:
        raise parameter_error("Only one of hostId and storageId can be specified", "omit one of them")
    if "storageid" not in arguments:
        raise _why_not_to_a_host(connection, vm, arguments.get("hostid"), arguments.flag("autoselect"))
    if vm.state is not InstanceState.STOPPED:
        raise parameter_error(
            f"VM is not Stopped, unable to migrate the vm {vm.name}", "call stopVirtualMachine first"
        )
    root = volumes.root_of(connection, vm.id)
    disks = [*([root] if root else []), *volumes.data_of(connection, vm.id)]
    targets = [check_target(connection, volume, arguments["storageid"], usages) for volume in disks]
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
            "Either hostId or storageId must be specified", "give storageid, the pool to move its volumes to"
        )
    host = None if host_uuid is None else zones.host_rows.by_uuid(connection, host_uuid)
    if vm.state is not InstanceState.RUNNING:
        return parameter_error(
            f"VM is not Running, unable to migrate the vm {vm.name}", "give storageid to move its volumes"
        )
    if host is not None and host.id == vm.host_id:
        return parameter_error(
            "Cannot migrate VM, VM is already present on this host,"
            " please specify valid destination host to migrate the VM",
            "omit hostid, and give storageid to move its volumes",
        )
    root = volumes.root_of(connection, vm.id)
    if root is None or root.pool_id is None or storage_pools.rows.by_id(connection, root.pool_id).is_local:
        return parameter_error(
            "Unsupported operation, VM uses Local storage, cannot migrate",
            "stop it, and move its volumes to a shared pool by storageid",
        )
    return parameter_error(
        "Unable to find suitable destination to migrate VM: no other host runs machines of this daemon",
        "stop it and start it again, when its host has not enough room",
    )

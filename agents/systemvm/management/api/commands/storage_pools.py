# SPDX-License-Identifier: Apache-2.0
"""createStoragePool, listStoragePools, updateStoragePool, deleteStoragePool, and maintenance of pools."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from functools import partial
from typing import Any

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.infrastructure import StoragePoolAnswer
from systemvm.management.api.command import ApiCall, Command, Handler, ResponseShape, StartedJob, paged
from systemvm.management.api.commands import zone_answers
from systemvm.management.api.envelope import plain
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import Arguments, Parameter, ParameterType, only, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.api.zone_parts import matching
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.primary.pool_service import StoragePools
from systemvm.management.state import storage_pools, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.virtual_machines.pool_maintenance import PoolMaintenance
from systemvm.management.zone_model import pools
from systemvm.management.zone_model.changes import ChangeOrigin, ModelChanges
from systemvm.management.zone_model.pools import PoolAddress, PoolPlace

STRING, UUID, BOOLEAN = ParameterType.STRING, ParameterType.UUID, ParameterType.BOOLEAN
_ID = required("id", UUID, "UUID of the storage pool; see listStoragePools")
_ENABLE, _CANCEL = "enableStorageMaintenance", "cancelStorageMaintenance"
_SCOPES = ("zone", "cluster", "host", "ZONE", "CLUSTER", "HOST")
_CREATE = (
    required("name", STRING, "name of the pool"),
    required(
        "url",
        STRING,
        "nfs://ADDRESS/PATH, or SharedMountPoint://localhost/PATH for a directory that each host has mounted",
    ),
    required("zoneid", UUID, "UUID of the zone; see listZones"),
    optional("podid", UUID, "UUID of the pod of the cluster"),
    optional("clusterid", UUID, "UUID of the cluster whose hosts use it; required with scope=cluster"),
    optional(
        "hostid", UUID, "with scope=host: UUID of the only host; an addition to CloudStack's parameters"
    ),
    optional(
        "scope",
        STRING,
        "zone, cluster or host; cluster by default with clusterid, else zone",
        choices=_SCOPES,
    ),
    optional("hypervisor", STRING, "hypervisor of its hosts", choices=("KVM",)),
    optional("tags", STRING, "comma-separated tags"),
    only("provider", STRING, "provider of the storage", "DefaultPrimary"),
    only("managed", BOOLEAN, "whether the storage makes a volume for each disk", False),
)


class StoragePoolCommands:
    """Handlers of these commands."""

    def __init__(
        self,
        database: Database,
        service: StoragePools,
        maintenance: PoolMaintenance,
        model: ModelChanges,
        jobs: JobRunner,
    ) -> None:
        self._database = database
        self._service = service
        self._maintenance = maintenance
        self._model = model
        self._jobs = jobs
        jobs.register(_ENABLE, self._run_enable, resumes=True)
        jobs.register(_CANCEL, self._run_cancel, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            _command(
                "listStoragePools", paged(self._list), "Lists primary storage pools.", ResponseShape.LIST,
                optional("id", UUID, "list only the one with this id"),
                optional("name", STRING, "list only the one with this name"),
                optional("zoneid", UUID, "list only those of this zone"),
                optional("podid", UUID, "list only those of this pod"),
                optional("clusterid", UUID, "list only those of this cluster"),
                optional("scope", STRING, "list only those of this scope"),
                optional("path", STRING, "list only the one at this path"),
                optional("ipaddress", STRING, "list only those of this address"),
                optional("status", STRING, "list only those in this state"),
                sortable=("name", "type", "state", "disksizeallocated"),
            ),
            _command(
                "createStoragePool", self._create,
                "Creates a primary storage pool; NFS is mounted on each host that uses it.",
                ResponseShape.OBJECT, *_CREATE,
            ),
            _command(
                "updateStoragePool", self._update, "Changes, disables or enables a storage pool.",
                ResponseShape.OBJECT, _ID,
                optional("name", STRING, "the new name"),
                optional("tags", STRING, "the new tags, comma-separated; empty: none", clears=True),
                optional("enabled", BOOLEAN, "false: it gets no new volume"),
            ),
            _command(
                _ENABLE, lambda call: self._start(call, _ENABLE),
                "Stops the VMs with disks in a storage pool, and has nothing use the pool.",
                ResponseShape.ASYNC, _ID,
            ),
            _command(
                _CANCEL, lambda call: self._start(call, _CANCEL),
                "Ends the maintenance of a storage pool, and starts the VMs that were stopped for it.",
                ResponseShape.ASYNC, _ID,
            ),
            Command(
                "deleteStoragePool", self._delete,
                "Deletes a storage pool without volumes; its files stay where they are.",
                SuccessAnswer, shape=ResponseShape.BARE,
                parameters=(_ID, only("forced", BOOLEAN, "delete its volumes, too", False)),
                roles=ADMIN_ONLY, related=("listStoragePools", "migrateVolume"),
            ),
        )  # fmt: skip

    async def _list(self, call: ApiCall) -> list[StoragePoolAnswer]:
        answers = await self._answers()
        names = ("id", "name", "zoneid", "podid", "clusterid", "scope", "path", "ipaddress")
        return matching(call, answers, *names, status="state")

    async def _create(self, call: ApiCall) -> StoragePoolAnswer:
        arguments = call.arguments
        address = pools.read_url(arguments["url"])
        tags = pools.read_tags(arguments.get("tags", ""))
        place, name = await self._database.read(_checked, arguments, address)
        planned = _planned(place, name, address, tags)
        async with self._service.prepared(planned):
            pool = await self._model.make(
                _origin(call),
                "STORAGE.POOL.CREATE",
                lambda connection: pools.create_pool(connection, planned.uuid, place, name, address, tags),
                lambda pool: f"storage pool {pool.name} is created",
            )
        return await self._answer(pool)

    async def _update(self, call: ApiCall) -> StoragePoolAnswer:
        arguments = call.arguments
        pool = await self._model.make(
            _origin(call),
            "STORAGE.POOL.EDIT",
            lambda connection: pools.update_pool(
                connection,
                storage_pools.by_uuid(connection, arguments["id"]),
                name=arguments.text("name"),
                tags=arguments.text("tags"),
                enabled=arguments.get("enabled"),
            ),
            lambda pool: f"storage pool {pool.name} is updated",
        )
        return await self._answer(pool)

    async def _delete(self, call: ApiCall) -> SuccessAnswer:
        uuid_ = call.arguments["id"]
        pool = await self._database.read(_deletable, uuid_)
        # first: a mount that something uses stays with its pool
        await self._service.close(pool)
        try:
            await self._model.make(
                _origin(call),
                "STORAGE.POOL.DELETE",
                lambda connection: pools.delete_pool(connection, storage_pools.by_uuid(connection, uuid_)),
                lambda pool: f"storage pool {pool.name} is deleted",
            )
        except Exception:
            await self._service.reopen(pool)
            raise
        return SuccessAnswer(success=True)

    async def _start(self, call: ApiCall, command: str) -> StartedJob:
        pool = await self._database.read(storage_pools.by_uuid, call.arguments["id"])
        return await start_job(
            self._jobs, call, command, {"id": pool.id}, about="StoragePool", uuid=pool.uuid
        )

    async def _run_enable(self, running: RunningJob) -> dict[str, Any]:
        pool = await self._maintenance.enable(running.job.arguments["id"])
        return {"storagepool": plain(await self._answer(pool))}

    async def _run_cancel(self, running: RunningJob) -> dict[str, Any]:
        begins = partial(running.begin, text="Starting its virtual machines")
        pool = await self._maintenance.cancel(running.job.arguments["id"], begins)
        return {"storagepool": plain(await self._answer(pool))}

    async def _answer(self, pool: StoragePool) -> StoragePoolAnswer:
        found = next((answer for answer in await self._answers() if answer.id == pool.uuid), None)
        if found is None:
            raise NotFoundError(f"storage pool {pool.name} was deleted meanwhile")
        return found

    async def _answers(self) -> list[StoragePoolAnswer]:
        usages = await self._service.usages()
        return await self._database.read(zone_answers.pools, self._service.own_directory, usages)


def _checked(connection: Connection, arguments: Arguments, address: PoolAddress) -> tuple[PoolPlace, str]:
    zone = zones.zone_by_uuid(connection, arguments["zoneid"])
    cluster, host = arguments.text("clusterid"), arguments.text("hostid")
    scope = arguments.get("scope") or ("cluster" if cluster else "host" if host else "zone")
    place = pools.place_of(connection, scope, zone, cluster, host, arguments.text("podid"))
    return place, pools.check_new(connection, place, arguments["name"], address)


def _deletable(connection: Connection, uuid_: str) -> StoragePool:
    pool = storage_pools.by_uuid(connection, uuid_)
    pools.check_deletable(connection, pool)
    return pool


def _planned(place: PoolPlace, name: str, address: PoolAddress, tags: str) -> StoragePool:
    """Return the pool before it has a row, whose directory is prepared first."""
    cluster, host = place.cluster, place.host
    return StoragePool(
        id=0,
        uuid=str(uuid.uuid4()),
        zone_id=place.zone.id,
        pod_id=cluster.pod_id if cluster else None,
        cluster_id=cluster.id if cluster else None,
        host_id=host.id if host else None,
        name=name,
        scope=place.scope,
        type=address.type,
        server=address.server,
        path=address.path,
        state=storage_pools.UP,
        tags=tags,
        created=datetime.now(UTC),
        removed=None,
    )


def _origin(call: ApiCall) -> ChangeOrigin:
    user = call.principal
    return ChangeOrigin(user.account.id, user.user.id, call.request_id)


def _command(
    name: str,
    handler: Handler,
    description: str,
    shape: ResponseShape,
    *parameters: Parameter,
    sortable: tuple[str, ...] = (),
) -> Command:
    return Command(
        name, handler, description, StoragePoolAnswer, "storagepool", shape, parameters,
        roles=ADMIN_ONLY, related=("listStoragePools",), sortable=sortable,
    )  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""listVolumes."""

from __future__ import annotations

from collections.abc import Sequence

from systemvm.management.api.answers.volumes import VolumeAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, ResultPage
from systemvm.management.api.commands.tags import tag_answers
from systemvm.management.api.owner_names import NO_ROW, OwnerNames, read_names
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.api.paging import page_window, sort_order
from systemvm.management.api.parameters import ParameterType, named_uuids, optional
from systemvm.management.api.tag_parameters import TAGGED, wanted_tags
from systemvm.management.state import storage_pools, tags, volume_list, volumes
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.offerings import of_size
from systemvm.management.state.status import VolumeState
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.state.tags import Tag
from systemvm.management.state.volume_list import VolumeFilter, VolumeInUse
from systemvm.management.state.volumes import Volume

_ID = optional("id", ParameterType.UUID, "list only the one with this id")
_NAME = optional("name", ParameterType.STRING, "list only the one with this name")


class VolumeCommands:
    """The root disks of VMs, and data volumes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        text, identity = ParameterType.STRING, ParameterType.UUID
        return (
            Command(
                "listVolumes", self._volumes, "Lists volumes.",
                VolumeAnswer, "volume", ResponseShape.LIST,
                (
                    _ID, _NAME,
                    optional("ids", ParameterType.LIST, "list only those with these ids"),
                    optional("type", text, "list only those of this type"),
                    optional("state", text, "list only those in this state"),
                    optional("virtualmachineid", identity, "list only those of this machine"),
                    optional("zoneid", identity, "list only those of this zone"),
                    optional("storageid", identity, "list only those in this pool; for administrators only"),
                    TAGGED,
                    *OWNERS,
                ),
                sortable=tuple(volume_list.SORT_KEYS),
                kept=True,
            ),
        )  # fmt: skip

    async def _volumes(self, call: ApiCall) -> ResultPage:
        return await self._database.read(_select, call)


def answer_for(connection: Connection, volume: Volume) -> VolumeAnswer:
    """Return a volume as the result of a job, for its owner."""
    names = read_names(connection)
    tagged = tags.of_objects(connection, [volume.uuid]).get(volume.uuid, ())
    pool = None if volume.pool_id is None else storage_pools.by_id(connection, volume.pool_id)
    return _answer(volume_list.one(connection, volume), names, pool, tagged, for_admin=False)


def _select(connection: Connection, call: ApiCall) -> ResultPage:
    """Return the rows of a list's page.

    Raises: ApiError 431 for a page that does not exist or an unknown owner.
    """
    arguments, names = call.arguments, read_names(connection)
    window, is_admin = page_window(arguments), call.principal.is_admin
    pools = storage_pools.list_pools(connection)
    wanted = arguments.text("storageid")
    host_id, pool_id = _place_of(wanted, pools if is_admin else [])
    which = VolumeFilter(
        account_ids=owners_of(connection, call).account_ids,
        uuids=named_uuids(arguments),
        name=arguments.text("name"),
        type=arguments.text("type"),
        state=arguments.text("state"),
        vm_uuid=arguments.text("virtualmachineid"),
        zone_id=names.number_of_zone(arguments.text("zoneid")),
        own_directory_of=host_id,
        pool_id=pool_id,
        keyword=arguments.text("keyword"),
        tags=wanted_tags(arguments),
    )
    found, count = volume_list.page(connection, which, window, sort_order(arguments))
    by_id = {pool.id: pool for pool in pools}
    of_host = {pool.host_id: pool for pool in pools if pool.is_own_directory}

    def pool_of(volume: Volume) -> StoragePool | None:
        return of_host.get(volume.host_id) if volume.pool_id is None else by_id.get(volume.pool_id)

    tagged = tags.of_objects(connection, [each.volume.uuid for each in found])
    answers = [
        _answer(each, names, pool_of(each.volume), tagged.get(each.volume.uuid, ()), for_admin=is_admin)
        for each in found
    ]
    return ResultPage(answers, count)


def _place_of(pool_uuid: str | None, pools: list[StoragePool]) -> tuple[int | None, int | None]:
    """Return the host whose own directory a pool is, or the number of another pool."""
    if pool_uuid is None:
        return None, None
    pool = next((pool for pool in pools if pool.uuid == pool_uuid), None)
    if pool is None:
        return None, NO_ROW
    return (pool.host_id, None) if pool.is_own_directory else (None, pool.id)


def _answer(
    found: VolumeInUse,
    names: OwnerNames,
    pool: StoragePool | None,
    tagged: Sequence[Tag],
    *,
    for_admin: bool,
) -> VolumeAnswer:
    volume = found.volume
    shown = pool if for_admin else None
    account = names.accounts[volume.account_id]
    domain = names.domains[account.domain_id]
    zone = names.zone(volume.zone_id)
    offering = names.disk_offerings.get(volume.disk_offering_id or 0)
    size = None
    if volume.type == volumes.ROOT and found.vm_vcpus is not None and found.vm_memory_mib is not None:
        size = of_size(found.vm_vcpus, found.vm_memory_mib, names.offerings)
    return VolumeAnswer(
        id=volume.uuid,
        tags=tag_answers(tagged, names),
        name=volume.name,
        type=volume.type,
        state=volume.state.value,
        size=found.size_bytes,
        account=account.name,
        domainid=domain.uuid,
        domain=domain.name,
        zoneid=zone.uuid if zone else None,
        zonename=zone.name if zone else None,
        hypervisor="KVM",
        storagetype="local" if pool is None or pool.is_local else "shared",
        storageid=shown.uuid if shown else None,
        storage=shown.name if shown else None,
        provisioningtype=volume.provisioning.value,
        deviceid=0 if volume.type == volumes.ROOT else volume.device_id,
        virtualmachineid=found.vm_uuid,
        vmname=found.vm_name,
        vmdisplayname=found.vm_display_name or found.vm_name,
        vmstate=found.vm_state.value if found.vm_state else None,
        templateid=found.template_uuid,
        templatename=found.template_name,
        serviceofferingid=size.uuid if size else None,
        serviceofferingname=size.name if size else None,
        diskofferingid=offering.uuid if offering else None,
        diskofferingname=offering.name if offering else None,
        diskofferingdisplaytext=offering.display_text if offering else None,
        isextractable=bool(found.is_extractable),
        displayvolume=True,
        deleteprotection=False,
        destroyed=volume.state is VolumeState.DESTROYED,
        created=volume.created,
        attached=volume.attached,
    )

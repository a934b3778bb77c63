# SPDX-License-Identifier: Apache-2.0
"""listVolumes, listDiskOfferings."""

from __future__ import annotations

from collections.abc import Sequence

from systemvm.management.api.answers.volumes import DiskOfferingAnswer, VolumeAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.owner_names import OwnerNames, read_names
from systemvm.management.api.ownership import OWNERS, OwnerFilter, owners_of
from systemvm.management.api.parameters import ParameterType, optional
from systemvm.management.api.zone_parts import matching
from systemvm.management.state import storage_pools, volumes
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.status import VolumeState
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.state.volumes import Volume, VolumeInUse

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
                "listVolumes", paged(self._volumes), "Lists volumes.",
                VolumeAnswer, "volume", ResponseShape.LIST,
                (
                    _ID, _NAME,
                    optional("ids", ParameterType.LIST, "list only those with these ids"),
                    optional("type", text, "list only those of this type"),
                    optional("state", text, "list only those in this state"),
                    optional("virtualmachineid", identity, "list only those of this machine"),
                    optional("zoneid", identity, "list only those of this zone"),
                    optional("storageid", identity, "list only those in this pool; for administrators only"),
                    *OWNERS,
                ),
            ),
            Command(
                "listDiskOfferings", paged(_no_offerings), "Lists disk offerings: there are none yet.",
                DiskOfferingAnswer, "diskoffering", ResponseShape.LIST, (_ID, _NAME),
            ),
        )  # fmt: skip

    async def _volumes(self, call: ApiCall) -> list[VolumeAnswer]:
        arguments, principal = call.arguments, call.principal
        owners = await self._database.read(owners_of, call)
        found = await self._database.read(_answers, owners, principal.is_admin)
        names = ("id", "name", "type", "state", "virtualmachineid", "zoneid", "storageid")
        return [
            answer
            for answer in matching(call, found, *names)
            if answer.id in arguments.get("ids", [answer.id]) and matches_keyword(arguments, answer.name)
        ]


def answer_for(connection: Connection, volume: Volume) -> VolumeAnswer:
    """Return a volume as the result of a job, for its owner."""
    names = read_names(connection)
    [found] = volumes.list_of_users(connection, None, volume_id=volume.id)
    return _answer(found, names, None)


def _answers(connection: Connection, owners: OwnerFilter, for_admin: bool) -> list[VolumeAnswer]:
    names = read_names(connection)
    found = volumes.list_of_users(connection, owners.account_ids)
    pools = storage_pools.list_pools(connection) if for_admin else []
    of_host = {pool.host_id: pool for pool in pools if pool.is_local}
    return [_answer(volume, names, of_host.get(volume.volume.host_id)) for volume in found]


def _answer(found: VolumeInUse, names: OwnerNames, pool: StoragePool | None) -> VolumeAnswer:
    volume = found.volume
    account = names.accounts[volume.account_id]
    domain = names.domains[account.domain_id]
    zone = names.zone(volume.zone_id)
    return VolumeAnswer(
        id=volume.uuid,
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
        storagetype="local",
        storageid=pool.uuid if pool else None,
        storage=pool.name if pool else None,
        provisioningtype="thin",
        deviceid=0 if volume.type == volumes.ROOT else volume.device_id,
        virtualmachineid=found.vm_uuid,
        vmname=found.vm_name,
        vmdisplayname=found.vm_display_name or found.vm_name,
        vmstate=found.vm_state.value if found.vm_state else None,
        templateid=found.template_uuid,
        templatename=found.template_name,
        isextractable=False,
        destroyed=volume.state is VolumeState.DESTROYED,
        created=volume.created,
    )


async def _no_offerings(call: ApiCall) -> Sequence[DiskOfferingAnswer]:
    """Return no offering: a VM has only its root disk."""
    return ()

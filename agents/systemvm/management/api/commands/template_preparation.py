# SPDX-License-Identifier: Apache-2.0
"""prepareTemplate: copies a template to primary storage before the first VM needs it there."""

from __future__ import annotations

from functools import partial

from attrs import frozen

from systemvm.management.api.answers.templates import TemplateAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, ResultPage
from systemvm.management.api.commands import template_list
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.primary.pools import reaches
from systemvm.management.state import storage_pools, templates, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.templates import Template
from systemvm.management.virtual_machines.service import VirtualMachines
from systemvm.service.single_flight import SingleFlight

UUID = ParameterType.UUID
_PARAMETERS = (
    required("zoneid", UUID, "the zone, which is that of the answering host"),
    required("templateid", UUID, "a template or ISO that is Ready there"),
    optional("storageid", UUID, "the storage pool; by default each that the answering host can use"),
)


@frozen
class _Prepared:
    template: Template
    pool_ids: list[int | None]  # None: the host's own directory
    answer: list[TemplateAnswer]


class TemplatePreparationCommands:
    """The handler; as in CloudStack it answers at once, and the copy is made in the background."""

    def __init__(self, database: Database, machines: VirtualMachines, *, host_id: int) -> None:
        self._database = database
        self._machines = machines
        self._host_id = host_id
        self._copies = SingleFlight[tuple[int, int | None]]()  # by the numbers of template and pool

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "prepareTemplate", self._prepare, "Copies a template to primary storage in the background.",
                TemplateAnswer, "template", ResponseShape.LIST, _PARAMETERS, ADMIN_ONLY, paged=False,
                related=("listTemplates", "listStoragePools"),
            ),
        )  # fmt: skip

    async def _prepare(self, call: ApiCall) -> ResultPage:
        prepared = await self._database.read(_to_prepare, call, self._host_id)
        number = prepared.template.id
        # a call while the copy is made joins it; one that failed is made again by the next call
        for pool_id in prepared.pool_ids:
            self._copies.start((number, pool_id), partial(self._machines.prepare_template, number, pool_id))
        return ResultPage(prepared.answer, len(prepared.answer))


def _to_prepare(connection: Connection, call: ApiCall, host_id: int) -> _Prepared:
    arguments = call.arguments
    zone = zones.zone_by_uuid(connection, arguments["zoneid"])
    template = templates.by_uuid(connection, arguments["templateid"])
    pools = storage_pools.list_pools(connection, zone.id)
    host = zones.host_by_id(connection, host_id)
    here = [pool for pool in pools if reaches(pool, host) and pool.state == storage_pools.UP]
    if "storageid" in arguments:
        named = storage_pools.rows.by_uuid(connection, arguments["storageid"])
        here = [pool for pool in here if pool.id == named.id]
    if not here:
        raise parameter_error(
            "zoneid",
            f"unable to find a storage pool of this host in zone {zone.name}",
            "call the daemon of the host whose pool it is; listStoragePools has the pools",
        )
    ref = templates.store_ref_of(connection, template.id, zone.id)
    if ref is None or not ref.is_ready:
        raise parameter_error(
            "templateid", f"{template.name} is not Ready in zone {zone.name}", "wait until it is Ready"
        )
    rows = template_list.answers_of(connection, [template], call.principal)
    pool_ids = [None if pool.is_own_directory else pool.id for pool in here]
    return _Prepared(template, pool_ids, [row for row in rows if row.zoneid == zone.uuid])

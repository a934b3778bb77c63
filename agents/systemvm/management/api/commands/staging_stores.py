# SPDX-License-Identifier: Apache-2.0
"""createSecondaryStagingStore, listSecondaryStagingStores, deleteSecondaryStagingStore, for administrators.

CloudStack demands such a store in each zone with buckets; here every NFS store of a zone can take copies for
hosts, and one that was made for that comes first and takes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.image_stores import ImageStoreAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, paged
from systemvm.management.api.commands.template_registration import named_or_only_zone
from systemvm.management.api.export_details import EXPORT_DETAILS, read_export_details
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.api.zone_parts import matching
from systemvm.management.image_stores.service import ImageStores, StoreDefinition
from systemvm.management.state import zones
from systemvm.management.state.database import Database
from systemvm.management.state.zones import NFS, ImageStore, Zone

STRING, UUID = ParameterType.STRING, ParameterType.UUID
#: Makes the answer of a store.
Answer = Callable[[ImageStore, Zone], ImageStoreAnswer]

_ID = required("id", UUID, "UUID of the staging store; see listSecondaryStagingStores")
_CREATE = (
    required("url", STRING, "nfs://SERVER/PATH of an export, the name of a server is looked up once"),
    optional("zoneid", UUID, "UUID of the zone; the only zone by default"),
    optional("scope", STRING, "ZONE: there is no other", choices=("ZONE",)),
    optional("provider", STRING, "NFS: there is no other", choices=(NFS,)),
    optional("details", ParameterType.MAP, f"settings of the store: {', '.join(EXPORT_DETAILS)}"),
    optional("name", STRING, "the name; the URL by default; an addition to CloudStack's parameters"),
)
_LIST = (
    optional("id", UUID, "list only the one with this id"),
    optional("name", STRING, "list only the one with this name"),
    optional("zoneid", UUID, "list only those of this zone"),
    optional("protocol", STRING, "list only those of this protocol"),
    optional("provider", STRING, "list only those of this provider"),
)


class StagingStoreCommands:
    """Handlers of the three commands."""

    def __init__(self, database: Database, stores: ImageStores, answer: Answer, deadline_s: float) -> None:
        self._database = database
        self._stores = stores
        self._answer = answer
        self._deadline_s = deadline_s

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "createSecondaryStagingStore", self._create,
                "Adds an NFS store for copies of templates in buckets, which hosts read there.",
                ImageStoreAnswer, "secondarystorage", ResponseShape.OBJECT, _CREATE, ADMIN_ONLY,
                deadline_s=self._deadline_s, related=("listSecondaryStagingStores",),
            ),
            Command(
                "listSecondaryStagingStores", paged(self._list), "Lists NFS stores for copies.",
                ImageStoreAnswer, "imagestore", ResponseShape.LIST, _LIST, ADMIN_ONLY,
                related=("createSecondaryStagingStore",),
            ),
            Command(
                "deleteSecondaryStagingStore", self._delete,
                "Removes a store for copies; its files stay, and new copies go to another one.",
                SuccessAnswer, shape=ResponseShape.BARE, parameters=(_ID,), roles=ADMIN_ONLY,
                deadline_s=self._deadline_s, related=("listSecondaryStagingStores",),
            ),
        )  # fmt: skip

    async def _create(self, call: ApiCall) -> ImageStoreAnswer:
        arguments = call.arguments
        zone = await self._database.read(named_or_only_zone, arguments.text("zoneid"))
        details = read_export_details(arguments.get("details", {}))
        url = arguments["url"]
        name = arguments.get("name", url)
        definition = StoreDefinition(name, url, is_staging=True, **details)
        return self._answer(await self._stores.add(zone.id, definition), zone)

    async def _list(self, call: ApiCall) -> list[ImageStoreAnswer]:
        rows = {zone.id: zone for zone in await self._database.read(zones.list_zones)}
        stores = await self._database.read(zones.list_staging_stores)
        answers = [self._answer(store, rows[store.zone_id]) for store in stores if store.zone_id in rows]
        wanted = call.arguments.get("provider", "").lower()
        found = [answer for answer in answers if wanted in ("", answer.providername.lower())]
        return matching(call, found, "id", "name", "zoneid", "protocol")

    async def _delete(self, call: ApiCall) -> SuccessAnswer:
        store = await self._database.read(zones.staging_store_by_uuid, call.arguments["id"])
        await self._stores.delete(store.id)
        return SuccessAnswer(success=True)

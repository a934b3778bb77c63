# SPDX-License-Identifier: Apache-2.0
"""addImageStore, listImageStores, updateImageStore, deleteImageStore, for administrators."""

from __future__ import annotations

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.image_stores import ImageStoreAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, paged
from systemvm.management.api.commands.staging_stores import StagingStoreCommands
from systemvm.management.api.commands.template_registration import named_or_only_zone
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.export_details import EXPORT_DETAILS, read_export_details
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.api.zone_parts import matching
from systemvm.management.image_stores.bucket_change import BucketChange
from systemvm.management.image_stores.bucket_details import CHANGEABLE_DETAILS
from systemvm.management.image_stores.bucket_details import DETAILS as BUCKET_DETAILS
from systemvm.management.image_stores.buckets import BucketDefinition
from systemvm.management.image_stores.service import ImageStores, StoreDefinition
from systemvm.management.state import zones
from systemvm.management.state.database import Database
from systemvm.management.state.zones import NFS, S3, ImageStore, Zone

STRING, UUID, BOOLEAN = ParameterType.STRING, ParameterType.UUID, ParameterType.BOOLEAN

_ID = required("id", UUID, "UUID of the store; see listImageStores")
_ADD = (
    required("provider", STRING, "NFS or S3", choices=(NFS, S3)),
    optional(
        "url",
        STRING,
        "nfs://SERVER/PATH of an export, the name of a server is looked up once; of a bucket only by details",
    ),
    optional("name", STRING, "the name; the URL by default"),
    optional("zoneid", UUID, "UUID of the zone; the only zone by default"),
    optional(
        "details",
        ParameterType.MAP,
        f"settings of the store. NFS: {', '.join(EXPORT_DETAILS)}. S3: {', '.join(BUCKET_DETAILS)}",
    ),
)
_LIST = (
    optional("id", UUID, "list only the one with this id"),
    optional("name", STRING, "list only the one with this name"),
    optional("zoneid", UUID, "list only those of this zone"),
    optional("protocol", STRING, "list only those of this protocol"),
    optional("provider", STRING, "list only those of this provider"),
    optional("readonly", BOOLEAN, "true: only read-only ones; false: only others"),
)
_UPDATE = (
    _ID,
    optional("name", STRING, "the new name"),
    optional("readonly", BOOLEAN, "true: nothing is written to it; false: it takes content again"),
    optional("capacitybytes", ParameterType.INTEGER, "how much a bucket takes; 0: any amount"),
    optional(
        "details",
        ParameterType.MAP,
        f"what changes of a bucket, checked first: {', '.join(CHANGEABLE_DETAILS)}; both keys together",
    ),
)
#: A mount waits for the NFS server.
ADD_DEADLINE_S = 240.0


class ImageStoreCommands:
    """Handlers of these commands, and of those for staging stores."""

    def __init__(self, database: Database, stores: ImageStores) -> None:
        self._database = database
        self._stores = stores

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "addImageStore", self._add, "Adds secondary storage to a zone.", ImageStoreAnswer,
                "imagestore", ResponseShape.OBJECT, _ADD, ADMIN_ONLY, deadline_s=ADD_DEADLINE_S,
                related=("listImageStores",),
            ),
            Command(
                "listImageStores", paged(self._list), "Lists secondary storage.", ImageStoreAnswer,
                "imagestore", ResponseShape.LIST, _LIST, ADMIN_ONLY,
                sortable=("name", "providername"), related=("updateImageStore",),
            ),
            Command(
                "updateImageStore", self._update, "Changes a store, or the keys of its bucket.",
                ImageStoreAnswer, "imagestore", ResponseShape.OBJECT, _UPDATE, ADMIN_ONLY,
                deadline_s=ADD_DEADLINE_S, related=("listImageStores",),
            ),
            Command(
                "deleteImageStore", self._delete, "Removes a store that holds no only copy; its files stay.",
                SuccessAnswer, shape=ResponseShape.BARE, parameters=(_ID,), roles=ADMIN_ONLY,
                deadline_s=ADD_DEADLINE_S, related=("listImageStores",),
            ),
            *StagingStoreCommands(self._database, self._stores, self.answer, ADD_DEADLINE_S).commands(),
        )  # fmt: skip

    async def _add(self, call: ApiCall) -> ImageStoreAnswer:
        arguments = call.arguments
        zone = await self._database.read(named_or_only_zone, arguments.text("zoneid"))
        if arguments["provider"] == S3:
            return await self._add_bucket(call, zone)
        url = arguments.text("url")
        if not url:
            raise parameter_error(
                "url", "unable to execute API command addimagestore due to missing parameter url"
            )
        details = read_export_details(arguments.get("details", {}))
        store = await self._stores.add(zone.id, StoreDefinition(arguments.get("name", url), url, **details))
        return self.answer(store, zone)

    async def _add_bucket(self, call: ApiCall, zone: Zone) -> ImageStoreAnswer:
        arguments = call.arguments
        definition = BucketDefinition.of_details(arguments.get("details", {}))
        url = definition.bucket.url
        given = (arguments.text("url") or url).rstrip("/")
        if given != url:
            raise parameter_error(
                "url", f"url is not that of the bucket: {given[:200]}", f"omit url, or send {url}"
            )
        name = arguments.get("name", url)
        store = await self._stores.add(zone.id, StoreDefinition(name, url, bucket=definition))
        return self.answer(store, zone)

    async def _list(self, call: ApiCall) -> list[ImageStoreAnswer]:
        rows = {zone.id: zone for zone in await self._database.read(zones.list_zones)}
        answers = [
            self.answer(store, rows[store.zone_id])
            for store in await self._database.read(zones.list_image_stores)
            if store.zone_id in rows
        ]
        wanted = call.arguments.get("provider", "").lower()
        found = [answer for answer in answers if wanted in ("", answer.providername.lower())]
        return matching(call, found, "id", "name", "zoneid", "protocol", "readonly")

    async def _update(self, call: ApiCall) -> ImageStoreAnswer:
        arguments = call.arguments
        found = await self._database.read(zones.image_store_by_uuid, arguments["id"])
        details = dict(arguments.get("details", {}))
        if (capacity := arguments.get("capacitybytes")) is not None:
            if capacity < 0:
                raise parameter_error("capacitybytes", f"capacitybytes is not a number above -1: {capacity}")
            details["capacitybytes"] = str(capacity)
        if details and not found.is_bucket:
            raise parameter_error(
                "details" if "details" in arguments else "capacitybytes",
                f"{found.name} is not a bucket: an export has neither keys nor a capacity that could be set",
                "omit details and capacitybytes",
            )
        store = await self._stores.update(
            found.id,
            name=arguments.text("name"),
            read_only=arguments.get("readonly"),
            bucket=BucketChange.of_details(details) if details else None,
        )
        return self.answer(store, await self._database.read(zones.zone_by_id, store.zone_id))

    async def _delete(self, call: ApiCall) -> SuccessAnswer:
        store = await self._database.read(zones.image_store_by_uuid, call.arguments["id"])
        await self._stores.delete(store.id)
        return SuccessAnswer(success=True)

    def answer(self, store: ImageStore, zone: Zone) -> ImageStoreAnswer:
        """Return the object of a store, whatever its role."""
        settings = self._stores.settings_of(zone)
        return ImageStoreAnswer(
            id=store.uuid,
            name=store.name,
            zoneid=zone.uuid,
            zonename=zone.name,
            url=store.url,
            protocol=store.url.partition(":")[0],
            providername=store.provider,
            scope="ZONE",
            readonly=store.read_only,
            retiring=store.retiring is not None,
            disksizetotal=store.capacity_bytes,
            disksizeused=store.used_bytes,
            notificationthreshold=settings.notification_threshold,
            capacitythreshold=settings.capacity_threshold,
            hasannotations=False,
        )

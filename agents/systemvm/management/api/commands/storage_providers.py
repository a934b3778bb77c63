# SPDX-License-Identifier: Apache-2.0
"""listStorageProviders and listStorageTags: what clients read before they make pools and stores."""

from __future__ import annotations

from systemvm.management.api.answers.storage_providers import StorageProviderAnswer, StorageTagAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, matches_keyword, paged
from systemvm.management.api.parameters import ParameterType, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.state import storage_pools
from systemvm.management.state.database import Database
from systemvm.management.state.zones import NFS, S3
from systemvm.management.zone_model.file_import import part_id

_PRIMARY, _IMAGE = "primary", "image"
_PROVIDERS = (
    StorageProviderAnswer(name="DefaultPrimary", type=_PRIMARY),
    StorageProviderAnswer(name=NFS, type=_IMAGE),
    StorageProviderAnswer(name=S3, type=_IMAGE),
)


class StorageProviderCommands:
    """The handlers, for administrators."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listStorageProviders", paged(_providers), "Lists providers of storage.",
                StorageProviderAnswer, "dataStoreProvider", ResponseShape.LIST,
                (
                    required(
                        "type", ParameterType.STRING, "primary: of pools; image: of image stores",
                        choices=(_PRIMARY, _IMAGE),
                    ),
                ),
                ADMIN_ONLY, related=("createStoragePool", "addImageStore"),
            ),
            Command(
                "listStorageTags", paged(self._tags), "Lists the tags of storage pools.",
                StorageTagAnswer, "storagetag", ResponseShape.LIST, roles=ADMIN_ONLY,
                related=("listStoragePools",),
            ),
        )  # fmt: skip

    async def _tags(self, call: ApiCall) -> list[StorageTagAnswer]:
        pools = await self._database.read(storage_pools.list_pools)
        return [
            StorageTagAnswer(id=part_id(pool.uuid, f"tag {name}"), name=name, poolid=pool.uuid)
            for pool in pools
            for name in filter(None, pool.tags.split(","))
            if matches_keyword(call.arguments, name)
        ]


async def _providers(call: ApiCall) -> list[StorageProviderAnswer]:
    return [
        each
        for each in _PROVIDERS
        if each.type == call.arguments["type"] and matches_keyword(call.arguments, each.name)
    ]

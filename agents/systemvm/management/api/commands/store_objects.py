# SPDX-License-Identifier: Apache-2.0
"""listImageStoreObjects, downloadImageStoreObject and adoptImageStoreTemplates.

CloudStack does not have the last: it deletes templates that it does not know.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from systemvm.management.api.answers.image_stores import (
    AdoptionAnswer,
    StoreObjectAnswer,
    StoreObjectLinkAnswer,
)
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob, paged
from systemvm.management.api.envelope import plain
from systemvm.management.api.job_start import start_job
from systemvm.management.api.ownership import OWNER, owner_of
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.api.principal import ADMIN_ONLY
from systemvm.management.image_stores.inspection import StoreInspection
from systemvm.management.image_stores.object_links import ObjectLinks
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import accounts, store_contents, templates, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.templates import Template
from systemvm.wire.storage import StoreObject

LINK_CREATED = "DOWNLOAD_URL_CREATED"
UUID, STRING = ParameterType.UUID, ParameterType.STRING
ADOPT, DOWNLOAD = "adoptImageStoreTemplates", "downloadImageStoreObject"

_LIST = (
    required("id", UUID, "UUID of the image store"),
    optional("path", STRING, "a directory or file, relative to the store; its top by default"),
)
_DOWNLOAD = (
    required("id", UUID, "UUID of the image store"),
    required("path", STRING, "a file, relative to the store; see listImageStoreObjects"),
)
_ADOPT = (required("id", UUID, "UUID of the image store"), *OWNER)


class StoreObjectCommands:
    """Handlers of these commands."""

    def __init__(
        self, database: Database, inspection: StoreInspection, links: ObjectLinks, jobs: JobRunner
    ) -> None:
        self._database = database
        self._inspection = inspection
        self._links = links
        self._jobs = jobs
        jobs.register(DOWNLOAD, self._run_download, resumes=True)
        jobs.register(ADOPT, self._run_adopt, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            Command(
                "listImageStoreObjects", paged(self._list), "Lists a directory of an image store.",
                StoreObjectAnswer, "datastoreobject", ResponseShape.LIST, _LIST, ADMIN_ONLY,
                related=("listImageStores",), deadline_s=120.0,
            ),
            Command(
                DOWNLOAD, self._download, "Creates a temporary link to a file of an image store.",
                StoreObjectLinkAnswer, "downloadimagestoreobjectresponse", ResponseShape.ASYNC, _DOWNLOAD,
                ADMIN_ONLY, related=("listImageStoreObjects",),
            ),
            Command(
                ADOPT, self._adopt, "Takes over the templates of another cloud on a store, unchanged.",
                AdoptionAnswer, "adoption", ResponseShape.ASYNC, _ADOPT, ADMIN_ONLY,
                related=("listImageStoreObjects", "listTemplates"),
            ),
        )  # fmt: skip

    async def _list(self, call: ApiCall) -> list[StoreObjectAnswer]:
        store = await self._database.read(zones.store_by_uuid, call.arguments["id"])
        path = call.arguments.get("path", "").strip("/")
        found = await self._inspection.browse(store, path)
        owners = await self._database.read(_templates_by_path, store.id)
        return [_answer(each, path, owners) for each in found]

    async def _download(self, call: ApiCall) -> StartedJob:
        store = await self._database.read(zones.store_by_uuid, call.arguments["id"])
        arguments = {"store": store.id, "path": call.arguments["path"]}
        return await start_job(self._jobs, call, DOWNLOAD, arguments, about="ImageStore", uuid=store.uuid)

    async def _run_download(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        store = await self._database.read(zones.store_by_id, arguments["store"])
        link = await self._links.create(store, arguments["path"], running.job.request_id)
        answer = StoreObjectLinkAnswer(
            id=link.row.uuid,
            name=link.row.path.rpartition("/")[2],
            state=LINK_CREATED,
            url=link.url,
            created=link.row.created,
            expires=link.row.expires,
        )
        return {"downloadimagestoreobjectresponse": plain(answer)}

    async def _adopt(self, call: ApiCall) -> StartedJob:
        store = await self._database.read(zones.image_store_by_uuid, call.arguments["id"])
        owner = await self._database.read(owner_of, call)
        arguments = {"store": store.id, "owner": owner.id}
        return await start_job(self._jobs, call, ADOPT, arguments, about="ImageStore", uuid=store.uuid)

    async def _run_adopt(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        owner = await self._database.read(accounts.account_by_id, arguments["owner"])
        result = await self._inspection.adopt(arguments["store"], owner)
        answer = AdoptionAnswer(
            adopted=[template.uuid for template in result.adopted],
            known=result.known,
            problems=result.problems,
        )
        return {"adoption": plain(answer)}


def _templates_by_path(connection: Connection, store_id: int) -> dict[str, Template]:
    """Return the templates of a store by the directory of each."""
    found = {}
    for ref, template in store_contents.contents(connection, store_id):
        account_id, template_id = templates.place_of(ref, template)
        found[f"template/tmpl/{account_id}/{template_id}"] = template
    return found


def _answer(each: StoreObject, path: str, owners: dict[str, Template]) -> StoreObjectAnswer:
    full = f"{path}/{each.name}".strip("/")
    owner = owners.get(full) or owners.get(full.rpartition("/")[0]) or owners.get(path.rpartition("/")[0])
    return StoreObjectAnswer(
        name=each.name,
        isdirectory=each.is_directory,
        size=each.size_bytes,
        templateid=owner.uuid if owner else None,
        templatename=owner.name if owner else None,
        format=owner.format.value if owner else None,
        lastupdated=datetime.fromtimestamp(each.modified_unix_s, UTC),
    )

# SPDX-License-Identifier: Apache-2.0
"""createTags, deleteTags, listTags: keys and values that owners give their objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.tags import TagAnswer
from systemvm.management.api.command import ApiCall, Command, Handler, ResponseShape, ResultPage, StartedJob
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.job_start import start_job
from systemvm.management.api.owner_names import OwnerNames, read_names
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.api.paging import page_window
from systemvm.management.api.parameters import Parameter, ParameterType, optional, required
from systemvm.management.api.tag_parameters import given_tags
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import guest_networks, instances, snapshots, tags, templates, volumes
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.tags import Tag, TagFilter

UUID, STRING, LIST, TAGS = ParameterType.UUID, ParameterType.STRING, ParameterType.LIST, ParameterType.TAGS
CREATE, DELETE = "createTags", "deleteTags"
#: Returns an object by its UUID; it has `account_id`, which is None of a shared network.
_FIND: dict[str, Callable[[Connection, str], Any]] = {
    "UserVm": instances.by_uuid,
    "Template": templates.by_uuid,
    "ISO": templates.by_uuid,
    "Volume": volumes.by_uuid,
    "Snapshot": snapshots.by_uuid,
    "Network": guest_networks.by_uuid,
}
_KIND = required("resourcetype", STRING, "type of the objects", choices=tuple(_FIND))
_IDS = required("resourceids", LIST, "UUIDs of the objects")
_LIST = (
    optional("resourceid", UUID, "list only those of this object"),
    optional("resourcetype", STRING, "list only those of objects of this type", choices=tuple(_FIND)),
    optional("key", STRING, "list only those with this key"),
    optional("value", STRING, "list only those with this value"),
    *OWNERS,
)


class TagCommands:
    """Handlers of these commands."""

    def __init__(self, database: Database, jobs: JobRunner) -> None:
        self._database = database
        self._jobs = jobs
        jobs.register(CREATE, self._run_create, resumes=True)
        jobs.register(DELETE, self._run_delete, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (
            self._change(
                CREATE, self._create, "Gives objects tags.", required("tags", TAGS, "keys and values")
            ),
            self._change(
                DELETE, self._delete, "Takes tags from objects: those that are named, or all.",
                optional("tags", TAGS, "keys, and values if only these are meant"),
            ),
            Command(
                "listTags", self._list, "Lists tags.", TagAnswer, "tag", ResponseShape.LIST, _LIST,
                related=(CREATE, DELETE),
            ),
        )  # fmt: skip

    @staticmethod
    def _change(name: str, handler: Handler, description: str, given: Parameter) -> Command:
        return Command(
            name, handler, description, SuccessAnswer, "success", ResponseShape.ASYNC, (_IDS, _KIND, given),
            related=("listTags",),
        )  # fmt: skip

    async def _create(self, call: ApiCall) -> StartedJob:
        await self._database.read(_check_new, call)
        return await self._start(call, CREATE)

    async def _delete(self, call: ApiCall) -> StartedJob:
        await self._database.read(_owners, call)
        return await self._start(call, DELETE)

    async def _start(self, call: ApiCall, command: str) -> StartedJob:
        wanted = call.arguments
        arguments = {
            "kind": wanted["resourcetype"],
            "uuids": wanted["resourceids"],
            "tags": wanted.get("tags"),
        }
        first = wanted["resourceids"][0]
        return await start_job(self._jobs, call, command, arguments, about=wanted["resourcetype"], uuid=first)

    async def _run_create(self, running: RunningJob) -> dict[str, Any]:
        await self._database.run(_add, running.job.arguments)
        return dict(plain(SuccessAnswer(success=True)))

    async def _run_delete(self, running: RunningJob) -> dict[str, Any]:
        wanted = running.job.arguments
        await self._database.run(tags.delete, wanted["uuids"], wanted["tags"])
        return dict(plain(SuccessAnswer(success=True)))

    async def _list(self, call: ApiCall) -> ResultPage:
        return await self._database.read(_select, call)


def tag_answers(found: Sequence[Tag], names: OwnerNames) -> list[TagAnswer]:
    """Return the `tags` of an object."""
    answers = []
    for tag in found:
        account = names.accounts[tag.account_id]
        domain = names.domains[account.domain_id]
        answers.append(
            TagAnswer(
                key=tag.key,
                value=tag.value,
                resourceid=tag.resource_uuid,
                resourcetype=tag.resource_type,
                account=account.name,
                domainid=domain.uuid,
                domain=domain.name,
            )
        )
    return answers


def _select(connection: Connection, call: ApiCall) -> ResultPage:
    arguments = call.arguments
    which = TagFilter(
        account_ids=owners_of(connection, call).account_ids,
        resource_uuid=arguments.text("resourceid"),
        resource_type=arguments.text("resourcetype"),
        key=arguments.text("key"),
        value=arguments.text("value"),
        keyword=arguments.text("keyword"),
    )
    found, count = tags.page(connection, which, page_window(arguments))
    return ResultPage(tag_answers(found, read_names(connection)), count)


def _owners(connection: Connection, call: ApiCall) -> list[str]:
    """Return the ids of the objects, which the caller has access to.

    Raises: ApiError 401 for another account's, 431 for one of another type or without an owner, NotFoundError
    when there is none.
    """
    kind, uuids = call.arguments["resourcetype"], call.arguments["resourceids"]
    if not uuids:
        raise parameter_error("resourceids", "resourceids is empty", "name at least one object")
    for uuid in uuids:
        found = _FIND[kind](connection, uuid)
        if kind == "Network" and found.is_shared:
            raise parameter_error(
                "resourceids", f"resourceids: network {uuid} is shared", "tag networks that accounts own"
            )
        if not call.principal.may_use(found.account_id):
            raise unauthorized(f"account {call.principal.account.name} must not tag this object", value=uuid)
        is_other = (kind == "UserVm" and found.type.is_system) or (
            kind in ("Template", "ISO") and found.is_iso != (kind == "ISO")
        )
        if is_other:
            raise parameter_error("resourceids", f"resourceids: {uuid} is not an id of type {kind}")
    return list(uuids)


def _check_new(connection: Connection, call: ApiCall) -> None:
    given = given_tags(call.arguments)
    for uuid, present in tags.of_objects(connection, _owners(connection, call)).items():
        for tag in present:
            if tag.key in given:
                raise parameter_error(
                    "tags",
                    f"tag {tag.key} already on {uuid} with value {tag.value}",
                    "delete it first with deleteTags",
                )


def _add(connection: Connection, wanted: dict[str, Any]) -> None:
    """Add the tags that are not there yet: a job that is resumed has added some."""
    present = tags.of_objects(connection, wanted["uuids"])
    for uuid in dict.fromkeys(wanted["uuids"]):
        owner = _FIND[wanted["kind"]](connection, uuid).account_id
        known = {tag.key for tag in present.get(uuid, ())}
        missing = {key: value for key, value in wanted["tags"].items() if key not in known}
        tags.add(connection, wanted["kind"], uuid, owner, missing)

# SPDX-License-Identifier: Apache-2.0
"""copyTemplate and copyIso: one that is Ready in a zone comes to others, under its id."""

from __future__ import annotations

from typing import Any

from systemvm.management.api.answers.templates import TemplateAnswer
from systemvm.management.api.authentication import principal_of
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.own_template import find_own
from systemvm.management.api.commands.template_list import ISO, TEMPLATE, TemplateCategory, answers_of
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import ApiError, ErrorCode, parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import accounts, replicas, templates, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.templates import Template
from systemvm.management.templates.zone_copies import ZoneCopies

UUID = ParameterType.UUID
_COPY = (
    required("id", UUID, "UUID of the template or ISO"),
    optional("destzoneid", UUID, "UUID of the zone that it comes to"),
    optional("destzoneids", ParameterType.LIST, "UUIDs of several such zones"),
    optional("sourcezoneid", UUID, "UUID of the zone where it is Ready; any by default"),
)


class TemplateCopyCommands:
    """Handlers of both commands."""

    def __init__(self, database: Database, copies: ZoneCopies, jobs: JobRunner) -> None:
        self._database = database
        self._copies = copies
        self._jobs = jobs
        for kind in (TEMPLATE, ISO):
            jobs.register(f"copy{kind.noun}", self._run, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (self._command_of(TEMPLATE), self._command_of(ISO))

    def _command_of(self, kind: TemplateCategory) -> Command:
        async def copy(call: ApiCall) -> StartedJob:
            template, zone_ids = await self._database.read(_to_copy, call, kind)
            arguments = {"id": template.id, "zones": zone_ids, "object": kind.object_name}
            return await start_job(
                self._jobs, call, f"copy{kind.noun}", arguments, about=kind.noun, uuid=template.uuid
            )

        return Command(
            f"copy{kind.noun}",
            copy,
            f"Copies {'an ISO' if kind.is_iso else 'a template'} to further zones.",
            TemplateAnswer,
            kind.object_name,
            ResponseShape.ASYNC,
            _COPY,
            related=(f"list{kind.noun}s",),
        )

    async def _run(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        template = await self._copies.run(running, arguments["id"], arguments["zones"])
        answer = await self._database.read(
            answer_for_job, template, arguments["zones"][0], running.job.user_id
        )
        return {arguments["object"]: plain(answer)}


def _to_copy(connection: Connection, call: ApiCall, kind: TemplateCategory) -> tuple[Template, list[int]]:
    arguments = call.arguments
    template = find_own(connection, call, kind, "copy")
    one = [arguments["destzoneid"]] if "destzoneid" in arguments else []
    uuids = [*one, *arguments.get("destzoneids", [])]
    if not uuids:
        raise parameter_error(
            "destzoneid", "Either destzoneid or destzoneids parameters have to be specified.", "see listZones"
        )
    zone_ids = list(dict.fromkeys(zones.zone_by_uuid(connection, uuid).id for uuid in uuids))
    if "sourcezoneid" in arguments:
        source = zones.zone_by_uuid(connection, arguments["sourcezoneid"])
        if source.id in zone_ids:
            raise parameter_error(
                "destzoneid" if one else "destzoneids",
                "Please specify different source and destination zones.",
            )
        found = replicas.copies_in_zone(connection, template.id, source.id)
        if not any(ref.is_ready for ref in found):
            raise parameter_error(
                "sourcezoneid", f"{template.name} is not ready in zone {source.name}", "wait until it is"
            )
    else:
        ref = templates.store_ref_of(connection, template.id)
        if ref is None or not ref.is_ready:
            raise parameter_error("id", f"{template.name} is not ready in any zone", "wait until it is")
    return template, zone_ids


def answer_for_job(
    connection: Connection, template: Template, zone_id: int, user_id: int | None
) -> TemplateAnswer:
    """Return a template in a zone, as the user of the job sees it."""
    user = accounts.user_by_id(connection, user_id or accounts.SYSTEM_ACCOUNT_ID)
    principal = principal_of(connection, user)
    zone = zones.zone_by_id(connection, zone_id)
    if principal is None:
        raise ApiError(ErrorCode.PARAMETER, f"user {user.username} was disabled meanwhile")
    rows = answers_of(connection, [template], principal)
    return next((row for row in rows if row.zoneid == zone.uuid), rows[0])

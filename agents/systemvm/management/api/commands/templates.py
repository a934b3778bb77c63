# SPDX-License-Identifier: Apache-2.0
"""registerTemplate, registerIso, listTemplates, listIsos, deleteTemplate, deleteIso."""

from __future__ import annotations

from typing import Any

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.templates import TemplateAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, ResultPage, StartedJob
from systemvm.management.api.commands.own_template import find_own
from systemvm.management.api.commands.template_list import (
    ISO,
    TEMPLATE,
    TemplateCategory,
    answers_of,
    list_parameters,
    select,
)
from systemvm.management.api.commands.template_registration import (
    REGISTER_ISO,
    REGISTER_TEMPLATE,
    named_or_only_zone,
    registration_of,
)
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.job_start import start_job
from systemvm.management.api.ownership import owner_of
from systemvm.management.api.parameters import EVERY_ZONE, ParameterType, only, optional, required
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import template_list, templates, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.templates import Template
from systemvm.management.templates.service import Owner, TemplateService

STRING, UUID, BOOLEAN, INTEGER, *_ = ParameterType  # in the order of their declaration

_DELETE = (
    required("id", UUID, "UUID of the template or ISO"),
    optional("zoneid", UUID, "UUID of the zone to delete it in; one of all zones is deleted in all"),
)
_DELETE_TEMPLATE = (
    *_DELETE,
    optional("forced", BOOLEAN, "delete it even if VMs use it; they keep their disks"),
    only("issystem", BOOLEAN, "it is a system template", False),
)


class TemplateCommands:
    """Handlers of the six commands."""

    def __init__(self, database: Database, service: TemplateService, jobs: JobRunner) -> None:
        self._database = database
        self._service = service
        self._jobs = jobs
        for kind in (TEMPLATE, ISO):
            jobs.register(f"delete{kind.noun}", self._run_delete, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (*self._commands_of(TEMPLATE), *self._commands_of(ISO))

    def _commands_of(self, kind: TemplateCategory) -> tuple[Command, ...]:
        noun, name = kind.noun, kind.object_name
        related = (f"register{noun}", f"list{noun}s", f"delete{noun}")

        async def register(call: ApiCall) -> list[TemplateAnswer]:
            return await self._register(call, kind)

        async def list_all(call: ApiCall) -> ResultPage:
            return await self._list(call, kind)

        async def delete(call: ApiCall) -> StartedJob:
            return await self._delete(call, kind)

        return (
            Command(
                f"register{noun}",
                register,
                f"Registers {'an ISO' if kind.is_iso else 'a template'} by URL; an SSVM downloads it.",
                TemplateAnswer,
                name,
                ResponseShape.LIST,
                REGISTER_ISO if kind.is_iso else REGISTER_TEMPLATE,
                paged=False,
                related=related,
            ),
            Command(
                f"list{noun}s",
                list_all,
                f"Lists {'ISOs' if kind.is_iso else 'templates'} with the state of their download.",
                TemplateAnswer,
                name,
                ResponseShape.LIST,
                list_parameters(kind),
                sortable=tuple(template_list.SORT_KEYS),
                related=related,
                kept=True,
            ),
            Command(
                f"delete{noun}",
                delete,
                f"Deletes {'an ISO' if kind.is_iso else 'a template'}, and its files on secondary storage.",
                SuccessAnswer,
                shape=ResponseShape.ASYNC,
                parameters=_DELETE if kind.is_iso else _DELETE_TEMPLATE,
                related=related,
            ),
        )

    async def _register(self, call: ApiCall, kind: TemplateCategory) -> list[TemplateAnswer]:
        zone = await self._database.read(_wanted_zone, call)
        owner = await self._database.read(owner_of, call)
        registration = registration_of(call, kind, (zone.arch if zone else None) or "amd64")
        template = await self._service.register(
            registration,
            Owner(owner.id, owner.domain_id, call.principal.user.id),
            zone.id if zone else None,
            call.request_id,
        )
        return await self._database.read(answers_of, [template], call.principal)

    async def _list(self, call: ApiCall, kind: TemplateCategory) -> ResultPage:
        return await self._database.read(select, call, kind)

    async def _delete(self, call: ApiCall, kind: TemplateCategory) -> StartedJob:
        template, zone_id = await self._database.read(_to_delete, call, kind)
        return await start_job(
            self._jobs,
            call,
            f"delete{kind.noun}",
            {"id": template.id, "forced": call.arguments.flag("forced"), "zone": zone_id},
            about=kind.noun,
            uuid=template.uuid,
        )

    async def _run_delete(self, running: RunningJob) -> dict[str, Any]:
        arguments = running.job.arguments
        complete = await self._service.delete(
            arguments["id"], forced=arguments.get("forced", False), zone_id=arguments.get("zone")
        )
        text = None if complete else "Its files will be deleted when a secondary storage VM is Up."
        answer = plain(SuccessAnswer(success=True, displaytext=text))
        return dict(answer)


def _wanted_zone(connection: Connection, call: ApiCall) -> zones.Zone | None:
    """Return the zone of a registration; None for all zones."""
    uuid = call.arguments.text("zoneid")
    if uuid != EVERY_ZONE:
        return named_or_only_zone(connection, uuid)
    if not call.principal.is_admin:
        raise parameter_error(
            "zoneid",
            "Only admins can create templates in all zones",
            "send the zoneid of one zone; see listZones",
        )
    return None


def _to_delete(connection: Connection, call: ApiCall, kind: TemplateCategory) -> tuple[Template, int | None]:
    template = find_own(connection, call, kind, "delete")
    if "zoneid" in call.arguments:
        zone = zones.zone_by_uuid(connection, call.arguments["zoneid"])
        if not templates.is_in_zone(connection, template, zone.id):
            raise parameter_error("zoneid", f"{template.name} is not in zone {zone.name}", "omit zoneid")
        return template, zone.id
    return template, None

# SPDX-License-Identifier: Apache-2.0
"""extractTemplate and extractIso: a temporary link to an image on secondary storage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import quote

from systemvm.management.api.answers.extracts import ExtractAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob
from systemvm.management.api.commands.template_list import ISO, TEMPLATE, TemplateCategory
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.job_start import start_job
from systemvm.management.api.parameters import ParameterType, optional, required
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import accounts, templates, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.templates import Template
from systemvm.management.state.zones import Zone
from systemvm.management.templates.extraction import CreatedLink, Extraction

HTTP_DOWNLOAD = "HTTP_DOWNLOAD"
#: What Java's URLEncoder leaves as it is, besides letters and digits.
_NOT_ENCODED = "*-._"


class Extracted(Protocol):
    """What a link leads to."""

    @property
    def uuid(self) -> str: ...
    @property
    def name(self) -> str: ...


class ExtractCommands:
    """Handlers of both commands; `is_disabled` returns CloudStack's disable.extraction of a zone by name."""

    def __init__(
        self,
        database: Database,
        extraction: Extraction,
        jobs: JobRunner,
        is_disabled: Callable[[str], bool],
    ) -> None:
        self._database = database
        self._extraction = extraction
        self._jobs = jobs
        self._is_disabled = is_disabled
        for kind in (TEMPLATE, ISO):
            # it can be repeated: a link that is valid is used again
            jobs.register(f"extract{kind.noun}", self._run, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (self._command_of(TEMPLATE), self._command_of(ISO))

    def _command_of(self, kind: TemplateCategory) -> Command:
        name = f"extract{kind.noun}"
        text = "an ISO" if kind.is_iso else "a template"

        async def extract(call: ApiCall) -> StartedJob:
            template, zone = await self._database.read(_to_extract, call, kind)
            if self._is_disabled(zone.name):
                raise unauthorized("Extraction has been disabled by admin")
            arguments = {"id": template.id, "zone": zone.id}
            return await start_job(self._jobs, call, name, arguments, about=kind.noun, uuid=template.uuid)

        return Command(
            name,
            extract,
            f"Creates a temporary link by which {text} can be downloaded from a secondary storage VM.",
            ExtractAnswer,
            kind.object_name,
            ResponseShape.ASYNC,
            (
                required("id", ParameterType.UUID, f"UUID of {text} that is Ready"),
                required("mode", ParameterType.STRING, "how to download it", choices=(HTTP_DOWNLOAD,)),
                optional("zoneid", ParameterType.UUID, "zone of the wanted copy; the only one by default"),
            ),
            related=(f"register{kind.noun}", f"list{kind.noun}s"),
        )

    async def _run(self, running: RunningJob) -> dict[str, Any]:
        arguments, job = running.job.arguments, running.job
        link = await self._extraction.create(arguments["id"], arguments["zone"], job.request_id)
        answer = await self._database.read(answer_of, link)
        kind = ISO if job.command == f"extract{ISO.noun}" else TEMPLATE
        return {kind.object_name: dict(plain(answer))}


def _to_extract(connection: Connection, call: ApiCall, kind: TemplateCategory) -> tuple[Template, Zone]:
    uuid, principal = call.arguments["id"], call.principal
    noun = "ISO" if kind.is_iso else "template"
    template = templates.by_uuid(connection, uuid)
    if not kind.owns(template):
        raise parameter_error("id", f"unable to find {noun} with id {uuid}")
    if not principal.may_use(template.account_id):
        raise unauthorized(f"account {principal.account.name} must not extract this {noun}", value=uuid)
    if template.type == "SYSTEM":
        raise parameter_error(
            "id", f"unable to extract the {noun} {template.name} as it is a default System template"
        )
    if not principal.is_admin and not template.extractable:
        raise parameter_error(
            "id",
            f"unable to extract the {noun} {template.name}: it is not extractable",
            f"register the {noun} with isextractable=true, or ask an administrator",
        )
    zone = _zone_of(connection, call.arguments.text("zoneid"), template)
    ref = templates.store_ref_of(connection, template.id, zone.id)
    if ref is None or not ref.is_ready:
        raise parameter_error("id", f"The {noun} has not been downloaded", "wait until it is Ready")
    return template, zone


def _zone_of(connection: Connection, uuid: str | None, template: Template) -> Zone:
    if uuid is not None:
        zone = zones.zone_by_uuid(connection, uuid)
        if template.zone_id not in (None, zone.id):
            raise parameter_error("zoneid", f"{template.name} is not in zone {zone.name}", "omit zoneid")
        return zone
    if template.zone_id is not None:
        return zones.zone_by_id(connection, template.zone_id)
    present = zones.list_zones(connection)
    if len(present) != 1:
        raise parameter_error(
            "zoneid", f"parameter zoneid is missing: there are {len(present)} zones", "send zoneid"
        )
    return present[0]


def answer_of(connection: Connection, link: CreatedLink, of: Extracted | None = None) -> ExtractAnswer:
    """Return a link as its user gets it; `of` is what it leads to when that is no template."""
    row = link.row
    template = of or templates.by_id(connection, row.template_id)
    zone = zones.zone_by_id(connection, row.zone_id)
    return ExtractAnswer(
        id=template.uuid,
        name=template.name,
        extract_id=row.uuid,
        account_id=accounts.account_rows.by_id(connection, row.account_id).uuid,
        state="DOWNLOAD_URL_CREATED",
        extract_mode=HTTP_DOWNLOAD,
        url=quote(link.url, safe=_NOT_ENCODED),
        created=row.created,
        expires=row.expires,
        storagetype="secondary",
        zoneid=zone.uuid,
        zonename=zone.name,
    )

# SPDX-License-Identifier: Apache-2.0
"""registerTemplate, registerIso, listTemplates, listIsos, deleteTemplate, deleteIso."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from attrs import frozen

from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.templates import DownloadDetail, TemplateAnswer
from systemvm.management.api.command import ApiCall, Command, Shape, Started, matches_keyword, paged
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.job_start import start_job
from systemvm.management.api.owners import Names, read_names
from systemvm.management.api.parameters import Arguments, ParameterType, optional, required
from systemvm.management.api.principal import Principal
from systemvm.management.jobs.runner import Jobs, Running
from systemvm.management.state import templates, zones
from systemvm.management.state.database import Database
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.templates.registration import Registration, RegistrationError
from systemvm.management.templates.service import Owner, TemplateService
from systemvm.management.templates.status_text import status_text
from systemvm.wire.checksum import bare_digest
from systemvm.wire.storage import ImageFormat

STRING, UUID, BOOLEAN, INTEGER, LIST = ParameterType  # in the order of their declaration

FILTERS = (
    "featured",
    "self",
    "selfexecutable",
    "shared",
    "sharedexecutable",
    "executable",
    "community",
    "all",
)


@frozen
class Kind:
    """What differs between templates and ISOs."""

    noun: str
    object_name: str
    is_iso: bool
    filter_name: str
    default_filter: str | None

    def owns(self, template: Template) -> bool:
        return template.is_iso is self.is_iso


TEMPLATE = Kind("Template", "template", False, "templatefilter", None)
ISO = Kind("Iso", "iso", True, "isofilter", "selfexecutable")

_REGISTER = (
    required("name", STRING, "the name"),
    required("url", STRING, "where an SSVM downloads it from: http or https"),
    optional("displaytext", STRING, "a description for people; the name without it"),
    optional("checksum", STRING, "{ALG}hex over the file as downloaded; its length tells a missing {ALG}"),
    optional("ispublic", BOOLEAN, "other accounts may use it"),
    optional("isfeatured", BOOLEAN, "show it first; administrators only"),
    optional("isextractable", BOOLEAN, "it may be downloaded from the cloud"),
    optional("passwordenabled", BOOLEAN, "guests take passwords from the cloud"),
    optional("ostypeid", STRING, "the guest's operating system"),
    optional("arch", STRING, "the processor architecture; the zone's without it"),
)
_LIST = (
    optional("id", UUID, "only this one"),
    optional("ids", LIST, "only these"),
    optional("name", STRING, "only those of this name"),
    optional("zoneid", UUID, "only those of this zone"),
    optional("isready", BOOLEAN, "only those that are ready, or not"),
    optional("hypervisor", STRING, "only those for this hypervisor"),
    optional("arch", STRING, "only those for this architecture"),
    optional("listall", BOOLEAN, "accepted and not needed: the filter says it"),
)
_DELETE = (
    required("id", UUID, "which one"),
    optional("zoneid", UUID, "accepted for CloudStack's clients; it is in one zone"),
)


_FORCED = optional("forced", BOOLEAN, "also when machines use it; they keep their disks")


class TemplateCommands:
    """Handlers of the six commands."""

    def __init__(self, database: Database, service: TemplateService, jobs: Jobs) -> None:
        self._database = database
        self._service = service
        self._jobs = jobs
        for kind in (TEMPLATE, ISO):
            jobs.register(f"delete{kind.noun}", self._run_delete, resumes=True)

    def commands(self) -> tuple[Command, ...]:
        return (*self._commands_of(TEMPLATE), *self._commands_of(ISO))

    def _commands_of(self, kind: Kind) -> tuple[Command, ...]:
        noun, name = kind.noun, kind.object_name
        related = (f"register{noun}", f"list{noun}s", f"delete{noun}")

        async def register(call: ApiCall) -> list[TemplateAnswer]:
            return [await self._register(call, kind)]

        @paged
        async def select(call: ApiCall) -> list[TemplateAnswer]:
            return await self._list(call, kind)

        async def delete(call: ApiCall) -> Started:
            return await self._delete(call, kind)

        own = (
            (
                optional("zoneid", UUID, "the zone; the only one without it"),
                required("format", STRING, "QCOW2 or RAW"),
                required("hypervisor", STRING, "KVM", choices=("KVM",)),
                optional("requireshvm", BOOLEAN, "it needs hardware virtualization"),
            )
            if not kind.is_iso
            else (
                required("zoneid", UUID, "the zone"),
                optional("bootable", BOOLEAN, "VMs can boot from it"),
            )
        )
        wanted = (
            required("templatefilter", STRING, "which templates", choices=FILTERS)
            if not kind.is_iso
            else optional("isofilter", STRING, "which ISOs; selfexecutable without it", choices=FILTERS)
        )
        return (
            Command(
                f"register{noun}",
                register,
                f"Registers {'an ISO' if kind.is_iso else 'a template'} by URL; an SSVM downloads it.",
                TemplateAnswer,
                name,
                Shape.LIST,
                _REGISTER + own,
                paged=False,
                related=related,
            ),
            Command(
                f"list{noun}s",
                select,
                f"Lists {'ISOs' if kind.is_iso else 'templates'} with the state of their download.",
                TemplateAnswer,
                name,
                Shape.LIST,
                (wanted, *_LIST),
                related=related,
            ),
            Command(
                f"delete{noun}",
                delete,
                f"Deletes {'an ISO' if kind.is_iso else 'a template'}, and its files on secondary storage.",
                SuccessAnswer,
                shape=Shape.ASYNC,
                parameters=_DELETE if kind.is_iso else (*_DELETE, _FORCED),
                related=related,
            ),
        )

    async def _register(self, call: ApiCall, kind: Kind) -> TemplateAnswer:
        arguments = call.arguments
        zone = await self._database.read(the_zone, arguments.text("zoneid"))
        try:
            registration = _registration(call, kind, zone.arch or "amd64")
        except RegistrationError as error:
            raise parameter_error(f"Invalid value for parameter {error.parameter}: {error.message}") from None
        principal = call.principal
        owner = Owner(principal.account.id, principal.domain.id, principal.user.id)
        template = await self._service.register(registration, owner, zone.id, call.request_id)
        [answer] = await self._database.read(_answers, [template])
        return answer

    async def _list(self, call: ApiCall, kind: Kind) -> list[TemplateAnswer]:
        wanted = call.arguments.get(kind.filter_name, kind.default_filter)
        if wanted == "all" and not call.principal.is_admin:
            raise parameter_error("Filter all can be specified by root admin only")
        return await self._database.read(_select, kind, call, wanted)

    async def _delete(self, call: ApiCall, kind: Kind) -> Started:
        template = await self._database.read(_to_delete, call.arguments["id"], call.principal, kind)
        return await start_job(
            self._jobs,
            call,
            f"delete{kind.noun}",
            {"id": template.id, "forced": call.arguments.flag("forced")},
            about=kind.noun,
            uuid=template.uuid,
        )

    async def _run_delete(self, running: Running) -> dict[str, Any]:
        arguments = running.job.arguments
        complete = await self._service.delete(arguments["id"], forced=arguments.get("forced", False))
        text = None if complete else "Its files are removed as soon as a secondary storage VM is Up."
        answer = plain(SuccessAnswer(success=True, displaytext=text))
        return dict(answer)


def the_zone(connection: sa.Connection, uuid: str | None) -> zones.Zone:
    """The zone that was named, or the only one there is."""
    if uuid is not None:
        return zones.zone_by_uuid(connection, uuid)
    present = zones.list_zones(connection)
    if len(present) != 1:
        raise parameter_error("zoneid is needed: there is not exactly one zone", "listZones names them")
    return present[0]


def _registration(call: ApiCall, kind: Kind, zone_arch: str) -> Registration:
    arguments = call.arguments
    return Registration.of(
        format_name=ImageFormat.ISO.value if kind.is_iso else _template_format(arguments["format"]),
        checksum_text=arguments.text("checksum"),
        name=arguments["name"],
        url=arguments["url"],
        display_text=arguments.get("displaytext", ""),
        hypervisor=arguments.get("hypervisor", "KVM"),
        os_type=arguments.text("ostypeid"),
        arch_name=arguments.get("arch", zone_arch),
        bootable=arguments.flag("bootable", True),
        featured=arguments.flag("isfeatured") and call.principal.is_admin,
        public=arguments.flag("ispublic"),
        extractable=arguments.flag("isextractable"),
        hvm=arguments.flag("requireshvm", True),
        password_enabled=arguments.flag("passwordenabled"),
    )


def _template_format(text: str) -> str:
    if text.upper() == ImageFormat.ISO.value:
        raise RegistrationError("format", "an ISO is registered with registerIso")
    return text


def _to_delete(connection: sa.Connection, uuid: str, principal: Principal, kind: Kind) -> Template:
    template = templates.by_uuid(connection, uuid)
    if not kind.owns(template):
        raise parameter_error(f"{uuid} is not {'an ISO' if kind.is_iso else 'a template'}")
    if not principal.may_use(template.account_id):
        raise unauthorized(f"{principal.account.name} may not delete {template.name}")
    return template


def _select(connection: sa.Connection, kind: Kind, call: ApiCall, wanted: str) -> list[TemplateAnswer]:
    arguments = call.arguments
    rows = [template for template in templates.list_all(connection) if kind.owns(template)]
    refs = templates.store_refs_of(connection, [template.id for template in rows])
    zone = zones.zone_by_uuid(connection, arguments["zoneid"]) if "zoneid" in arguments else None
    chosen = [
        template
        for template in rows
        if _passes_filter(template, refs.get(template.id), call.principal, wanted)
        and _fits(template, refs.get(template.id), arguments)
        and (zone is None or template.zone_id in (None, zone.id))
    ]
    return _answers(connection, chosen)


def _passes_filter(template: Template, ref: StoreRef | None, principal: Principal, wanted: str) -> bool:
    """CloudStack's templatefilter and isofilter."""
    own = template.account_id == principal.account.id
    ready = ref is not None and ref.is_ready
    match wanted:
        case "all":
            return principal.is_admin
        case "featured":
            return template.featured and template.public
        case "community":
            return template.public and not template.featured
        case "self":
            return own
        case "selfexecutable":
            return own and ready
        case "executable":
            return (own or template.public) and ready
    return False  # shared and sharedexecutable: nothing is shared with single accounts in this release


def _fits(template: Template, ref: StoreRef | None, arguments: Arguments) -> bool:
    ready = ref is not None and ref.is_ready
    return (
        arguments.get("id", template.uuid) == template.uuid
        and template.uuid in arguments.get("ids", [template.uuid])
        and arguments.get("name", template.name) == template.name
        and arguments.get("isready", ready) == ready
        and arguments.get("hypervisor", template.hypervisor).lower() == template.hypervisor.lower()
        and arguments.get("arch", template.arch) == template.arch
        and matches_keyword(arguments, template.name, template.display_text)
    )


def _bare(checksum: str | None) -> str | None:
    return None if checksum is None else bare_digest(checksum)


def _answers(connection: sa.Connection, rows: list[Template]) -> list[TemplateAnswer]:
    names = read_names(connection)
    refs = templates.store_refs_of(connection, [template.id for template in rows])
    return [_answer(template, refs.get(template.id), names) for template in rows]


def _answer(template: Template, ref: StoreRef | None, names: Names) -> TemplateAnswer:
    account, domain = names.accounts[template.account_id], names.domains[template.domain_id]
    zone = names.zone(template.zone_id)
    ready = ref is not None and ref.is_ready
    return TemplateAnswer(
        id=template.uuid,
        name=template.name,
        displaytext=template.display_text,
        format=template.format.value,
        isready=ready,
        status=status_text(ref, is_iso=template.is_iso),
        hint=None if ref is None or ready else ref.error_hint,
        url=template.url,
        checksum=_bare((ref.checksum if ref else None) or template.checksum),
        size=ref.virtual_size_bytes if ref else None,
        physicalsize=ref.physical_size_bytes if ref else None,
        downloaddetails=[_detail(ref, names)] if ref else [],
        bootable=template.bootable,
        ispublic=template.public,
        isfeatured=template.featured,
        isextractable=template.extractable,
        passwordenabled=template.password_enabled,
        requireshvm=template.hvm,
        cross_zones=template.zone_id is None,
        directdownload=False,
        templatetype=template.type,
        hypervisor=template.hypervisor,
        ostypename=template.os_type,
        arch=template.arch,
        created=template.created,
        removed=template.removed,
        zoneid=zone.uuid if zone else None,
        zonename=zone.name if zone else None,
        accountid=account.uuid,
        account=account.name,
        domainid=domain.uuid,
        domain=domain.name,
        domainpath=domain.path,
        details={key: str(value) for key, value in template.details.items()},
    )


def _detail(ref: StoreRef, names: Names) -> DownloadDetail:
    store = names.stores.get(ref.store_id)
    return DownloadDetail(
        datastore=store.name if store else str(ref.store_id),
        download_percent=str(ref.percent),
        download_state=ref.state.value,
    )

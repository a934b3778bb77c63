# SPDX-License-Identifier: Apache-2.0
"""registerTemplate, registerIso, listTemplates, listIsos, deleteTemplate, deleteIso."""

from __future__ import annotations

from typing import Any

from systemvm.management import os_types
from systemvm.management.api.answers.access import SuccessAnswer
from systemvm.management.api.answers.templates import TemplateAnswer
from systemvm.management.api.command import ApiCall, Command, ResponseShape, StartedJob, paged
from systemvm.management.api.commands.template_list import (
    ISO,
    TEMPLATE,
    TemplateCategory,
    answers_of,
    list_parameters,
    select,
)
from systemvm.management.api.envelope import plain
from systemvm.management.api.errors import parameter_error, unauthorized
from systemvm.management.api.job_start import start_job
from systemvm.management.api.ownership import OWNER, owner_of
from systemvm.management.api.parameters import EVERY_ZONE, ParameterType, only, optional, required
from systemvm.management.jobs.runner import JobRunner, RunningJob
from systemvm.management.state import templates, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.templates import Template
from systemvm.management.templates.registration import Registration, RegistrationError
from systemvm.management.templates.service import Owner, TemplateService
from systemvm.management.templates.sources import RegisteredSource
from systemvm.wire.source_access import SourceCredentials, require_login
from systemvm.wire.source_url import SourceUrlError
from systemvm.wire.storage import ImageFormat

STRING, UUID, BOOLEAN, INTEGER, *_ = ParameterType  # in the order of their declaration

_REGISTER = (
    required("name", STRING, "the name"),
    required("url", STRING, "where an SSVM downloads it from: http, https, or oci; a Metalink names mirrors"),
    *OWNER,
    optional("displaytext", STRING, "description for people; the name by default"),
    optional(
        "checksum",
        STRING,
        "digest of the file at url as {ALG}hex (without {ALG} its length decides), or URL of a checksum file",
    ),
    optional("checksumsignature", STRING, "URL of an OpenPGP signature of the checksum file"),
    optional("sourceusername", STRING, "user name for the server of url, by HTTP Basic authentication"),
    optional("sourcepassword", STRING, "password for the server of url; it is stored encrypted"),
    optional("ispublic", BOOLEAN, "let other accounts use it"),
    optional("isfeatured", BOOLEAN, "feature it; for administrators only"),
    optional("isextractable", BOOLEAN, "permit its download from the cloud"),
    only("passwordenabled", BOOLEAN, "guests take passwords from the cloud", False),
    optional("ostypeid", UUID, "the guest's operating system; see listOsTypes"),
    optional("arch", STRING, "processor architecture; the zone's by default"),
    only("isdynamicallyscalable", BOOLEAN, "change the size of running VMs", False),
    only("directdownload", BOOLEAN, "hosts download it themselves", False),
)
_EVERY_ZONE_TOO = "UUID of a zone; administrators can send -1 for all zones"
_REGISTER_TEMPLATE = (
    *_REGISTER,
    optional("zoneid", UUID, f"{_EVERY_ZONE_TOO}; the only zone by default", literals=(EVERY_ZONE,)),
    required("format", STRING, "QCOW2, RAW, VHD, VHDX, VMDK, OVA or TAR"),
    required("hypervisor", STRING, "KVM", choices=("KVM",)),
    optional("requireshvm", BOOLEAN, "it needs hardware virtualization"),
    only("bits", INTEGER, "32 or 64", 64),
    only("sshkeyenabled", BOOLEAN, "guests take SSH keys from the cloud", False),
    only("isrouting", BOOLEAN, "use it for virtual routers", False),
    only("deployasis", BOOLEAN, "take the settings of VMs from an OVA", False),
    only("forcks", BOOLEAN, "use it for Kubernetes clusters", False),
    only("templatetype", STRING, "type of the template", "USER"),
)
_REGISTER_ISO = (
    *_REGISTER,
    required("zoneid", UUID, _EVERY_ZONE_TOO, literals=(EVERY_ZONE,)),
    optional("bootable", BOOLEAN, "VMs can boot from it"),
)
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

        @paged
        async def list_all(call: ApiCall) -> list[TemplateAnswer]:
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
                _REGISTER_ISO if kind.is_iso else _REGISTER_TEMPLATE,
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
                related=related,
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
        try:
            registration = _registration(call, kind, (zone.arch if zone else None) or "amd64")
        except RegistrationError as error:
            raise parameter_error(f"Invalid value for parameter {error.parameter}: {error.message}") from None
        template = await self._service.register(
            registration,
            Owner(owner.id, owner.domain_id, call.principal.user.id),
            zone.id if zone else None,
            call.request_id,
        )
        return await self._database.read(answers_of, [template], call.principal)

    async def _list(self, call: ApiCall, kind: TemplateCategory) -> list[TemplateAnswer]:
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


def named_or_only_zone(connection: Connection, uuid: str | None) -> zones.Zone:
    """Return the zone with this UUID, or the only zone.

    Raises: ApiError 431 when no zone is named and there are several, NotFoundError for an unknown one.
    """
    if uuid is not None:
        return zones.zone_by_uuid(connection, uuid)
    present = zones.list_zones(connection)
    if len(present) != 1:
        raise parameter_error(
            f"parameter zoneid is missing: there are {len(present)} zones", "send zoneid; see listZones"
        )
    return present[0]


def _wanted_zone(connection: Connection, call: ApiCall) -> zones.Zone | None:
    """Return the zone of a registration; None for all zones."""
    uuid = call.arguments.text("zoneid")
    if uuid != EVERY_ZONE:
        return named_or_only_zone(connection, uuid)
    if not call.principal.is_admin:
        raise parameter_error(
            "Only admins can create templates in all zones", "send the zoneid of one zone; see listZones"
        )
    return None


def _registration(call: ApiCall, kind: TemplateCategory, zone_arch: str) -> Registration:
    arguments = call.arguments
    featured = arguments.flag("isfeatured")
    if featured and not call.principal.is_admin:
        raise parameter_error("Parameter isfeatured=true can be passed by Admin only", "omit isfeatured")
    os_type = arguments.text("ostypeid")
    if os_type is not None and os_types.find(os_type) is None:
        raise parameter_error(f"there is no OS type with the id {os_type}", "call listOsTypes")
    return Registration.of(
        format_name=ImageFormat.ISO.value if kind.is_iso else _template_format(arguments["format"]),
        checksum_text=arguments.text("checksum"),
        name=arguments["name"],
        url=arguments["url"],
        display_text=arguments.get("displaytext", ""),
        hypervisor=arguments.get("hypervisor", "KVM"),
        os_type=os_type or os_types.DEFAULT.id,
        arch_name=arguments.get("arch", zone_arch),
        bootable=arguments.flag("bootable", True),
        featured=featured,
        public=arguments.flag("ispublic"),
        extractable=arguments.flag("isextractable"),
        hvm=arguments.flag("requireshvm", True),
        source=RegisteredSource(_credentials(call), arguments.text("checksumsignature")),
    )


def _credentials(call: ApiCall) -> SourceCredentials | None:
    """Return the login of the source, which is in no URL: URLs are logged and listed."""
    username, password = call.arguments.text("sourceusername"), call.arguments.text("sourcepassword")
    if username is None:
        if password is not None:
            raise parameter_error("sourcepassword is given without sourceusername", "send both")
        return None
    login = SourceCredentials(username, password or "")
    try:
        require_login(login)
    except SourceUrlError as error:
        raise parameter_error(
            f"Invalid value for parameter sourceusername: {error.message}", error.hint
        ) from None
    return login


def _template_format(text: str) -> str:
    if text.upper() == ImageFormat.ISO.value:
        raise RegistrationError("format", "ISO is not a format of templates; call registerIso")
    return text


def _to_delete(connection: Connection, call: ApiCall, kind: TemplateCategory) -> tuple[Template, int | None]:
    uuid, principal = call.arguments["id"], call.principal
    template = templates.by_uuid(connection, uuid)
    if not kind.owns(template):
        raise parameter_error(f"{uuid} is not {'an ISO' if kind.is_iso else 'a template'}")
    if not principal.may_use(template.account_id):
        raise unauthorized(f"account {principal.account.name} must not delete {template.name}")
    if "zoneid" in call.arguments:
        zone = zones.zone_by_uuid(connection, call.arguments["zoneid"])
        if not templates.is_in_zone(connection, template, zone.id):
            raise parameter_error(f"{template.name} is not in zone {zone.name}", "omit zoneid")
        return template, zone.id
    return template, None

# SPDX-License-Identifier: Apache-2.0
"""listTemplates and listIsos: which rows they return, and with which keys."""

from __future__ import annotations

from attrs import frozen

from systemvm.management import os_types
from systemvm.management.api.answers.templates import DownloadDetail, TemplateAnswer
from systemvm.management.api.command import ApiCall, matches_keyword
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.owner_names import OwnerNames, read_names
from systemvm.management.api.ownership import OWNERS, OwnerFilter, owners_of
from systemvm.management.api.parameters import (
    EVERY_ZONE,
    Arguments,
    Parameter,
    ParameterType,
    only,
    optional,
    required,
)
from systemvm.management.api.principal import Principal
from systemvm.management.state import template_permissions, templates, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.templates.status_text import shown_state, status_text
from systemvm.service.redaction import redact_url
from systemvm.wire.checksum import bare_digest, is_url

STRING, UUID, BOOLEAN, INTEGER, LIST, *_ = ParameterType  # in the order of their declaration

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
class TemplateCategory:
    """What differs between templates and ISOs."""

    noun: str
    object_name: str
    is_iso: bool
    filter_name: str
    default_filter: str | None

    def owns(self, template: Template) -> bool:
        return template.is_iso is self.is_iso


TEMPLATE = TemplateCategory("Template", "template", False, "templatefilter", None)
ISO = TemplateCategory("Iso", "iso", True, "isofilter", "selfexecutable")

_BOTH = (
    optional("id", UUID, "list only this one, whatever the filter, even if not ready"),
    optional("ids", LIST, "list only these, whatever the filter, even if not ready"),
    optional("name", STRING, "list only those with this name"),
    optional("zoneid", UUID, "list only those of this zone; -1 for all zones", literals=(EVERY_ZONE,)),
    optional("isready", BOOLEAN, "true: list only those that are ready; false: all, as in CloudStack"),
    optional("hypervisor", STRING, "list only those for this hypervisor"),
    optional("arch", STRING, "list only those for this architecture"),
    optional(
        "oscategoryid", UUID, "list only those of this category of operating systems; see listOsCategories"
    ),
    *OWNERS,
    only("showremoved", BOOLEAN, "include deleted ones", False),
    only("showunique", BOOLEAN, "return one row for all zones", False),
    only("showicon", BOOLEAN, "include icons", False),
)
_TEMPLATES = (
    required("templatefilter", STRING, "filter of templates", choices=FILTERS),
    *_BOTH,
    optional(
        "details",
        LIST,
        "accepted, but without effect: rows have all keys",
        choices=("all", "min", "resource"),
    ),
    optional("templatetype", STRING, "list only those of this type"),
    only("isvnf", BOOLEAN, "list only network functions", False),
    only("forcks", BOOLEAN, "list only those for Kubernetes", False),
)
_ISOS = (
    optional("isofilter", STRING, "filter of ISOs; selfexecutable by default", choices=FILTERS),
    *_BOTH,
    optional("bootable", BOOLEAN, "true: list only bootable ones; false: only others"),
    optional("ispublic", BOOLEAN, "true: list only public ones; false: only others"),
)


def list_parameters(kind: TemplateCategory) -> tuple[Parameter, ...]:
    return _ISOS if kind.is_iso else _TEMPLATES


def select(connection: Connection, call: ApiCall, kind: TemplateCategory) -> list[TemplateAnswer]:
    """Return the rows of a list.

    Raises: ApiError 431 for a filter that the caller must not use.
    """
    arguments, principal = call.arguments, call.principal
    wanted = arguments.get(kind.filter_name, kind.default_filter)
    if wanted == "all" and not principal.is_admin:
        raise parameter_error("Filter all can be specified by root admin only")
    owners = owners_of(connection, call)
    zone_uuid = arguments.get("zoneid", EVERY_ZONE)
    zone = None if zone_uuid == EVERY_ZONE else zones.zone_by_uuid(connection, zone_uuid)
    rows = [
        template
        for template in templates.list_all(connection)
        if kind.owns(template) and _fits(template, arguments)
    ]
    by_id = "id" in arguments or "ids" in arguments
    names = read_names(connection)
    shared = template_permissions.shared_with(connection, principal.account.id)
    return [
        _answer(copy, names, principal)
        for copy in _copies(connection, rows, names)
        if (zone is None or copy.zone == zone)
        and (copy.ready or not arguments.flag("isready"))
        and (
            _may_see(copy.template, principal, shared)
            if by_id
            else _passes(copy, wanted, owners, principal.is_admin, shared)
        )
    ]


def answers_of(connection: Connection, rows: list[Template], principal: Principal) -> list[TemplateAnswer]:
    """Return one row for each zone that a template is in, with what this caller has access to."""
    names = read_names(connection)
    return [_answer(copy, names, principal) for copy in _copies(connection, rows, names)]


@frozen
class _Copy:
    """A template in one zone."""

    template: Template
    zone: zones.Zone | None
    refs: list[StoreRef]  # on the stores of that zone, the best first

    @property
    def ref(self) -> StoreRef | None:
        return self.refs[0] if self.refs else None

    @property
    def ready(self) -> bool:
        return self.ref is not None and self.ref.is_ready


def _copies(connection: Connection, rows: list[Template], names: OwnerNames) -> list[_Copy]:
    refs = templates.store_refs_by_zone(connection, [template.id for template in rows])
    present = [zone for zone in names.zones.values() if zone.removed is None]
    found = []
    for template in rows:
        own_zone = names.zone(template.zone_id)
        further = [zone for zone in present if zone != own_zone and (template.id, zone.id) in refs]
        for zone in [own_zone, *further] if own_zone else present:
            found.append(_Copy(template, zone, refs.get((template.id, zone.id), [])))
    return found


def _may_see(template: Template, principal: Principal, shared: set[int]) -> bool:
    return template.public or principal.may_use(template.account_id) or template.id in shared


def _passes(copy: _Copy, wanted: str, owners: OwnerFilter, is_admin: bool, shared: set[int]) -> bool:
    """Apply CloudStack's templatefilter or isofilter."""
    template, ready = copy.template, copy.ready
    own = template.account_id in owners
    match wanted:
        case "all":
            return is_admin
        case "featured":
            return template.featured and template.public
        case "community":
            return template.public and not template.featured
        case "self":
            return own
        case "selfexecutable":
            return own and ready
        case "executable":
            return (own or template.public or template.id in shared) and ready
        case "shared":
            return template.id in shared
        case "sharedexecutable":
            return template.id in shared and ready
    return False


def _fits(template: Template, arguments: Arguments) -> bool:
    os_type = os_types.of_row(template.os_type)
    category = os_type.category.id if os_type else None
    return (
        arguments.get("id", template.uuid) == template.uuid
        and template.uuid in arguments.get("ids", [template.uuid])
        and arguments.get("name", template.name) == template.name
        and arguments.get("hypervisor", template.hypervisor).lower() == template.hypervisor.lower()
        and arguments.get("arch", template.arch) == template.arch
        and arguments.get("templatetype", template.type).lower() == template.type.lower()
        and arguments.get("oscategoryid", category) == category
        and arguments.get("bootable", template.bootable) == template.bootable
        and arguments.get("ispublic", template.public) == template.public
        and matches_keyword(arguments, template.name, template.display_text)
    )


def _answer(copy: _Copy, names: OwnerNames, principal: Principal) -> TemplateAnswer:
    template, zone, ref = copy.template, copy.zone, copy.ref
    account, domain = names.accounts[template.account_id], names.domains[template.domain_id]
    os_type = os_types.of_row(template.os_type)
    return TemplateAnswer(
        id=template.uuid,
        name=template.name,
        displaytext=template.display_text,
        format=template.format.value,
        isready=copy.ready,
        status=status_text(ref, is_iso=template.is_iso),
        hint=None if ref is None or copy.ready else ref.error_hint,
        url=_url_for(template, principal),
        checksum=_bare((ref.checksum if ref else None) or template.checksum),
        size=ref.virtual_size_bytes if ref else None,
        physicalsize=ref.physical_size_bytes if ref else None,
        downloaddetails=[_detail(each, names) for each in copy.refs],
        bootable=template.bootable,
        ispublic=template.public,
        isfeatured=template.featured,
        isextractable=template.extractable,
        passwordenabled=template.password_enabled,
        sshkeyenabled=False,
        isdynamicallyscalable=False,
        requireshvm=template.hvm,
        bits=64,
        cross_zones=template.zone_id is None,
        directdownload=False,
        deployasis=False,
        forcks=False,
        templatetype=template.type,
        hypervisor=template.hypervisor,
        ostypeid=os_type.id if os_type else None,
        ostypename=os_type.name if os_type else str(template.os_type),
        arch=template.arch,
        created=template.created,
        removed=template.removed,
        zoneid=zone.uuid if zone else None,
        zonename=zone.name if zone else None,
        accountid=account.uuid,
        account=account.name,
        domainid=domain.uuid,
        domain=domain.name,
        domainpath=domain.pretty_path,
        details={key: str(value) for key, value in template.details.items()},
    )


def _url_for(template: Template, principal: Principal) -> str | None:
    """Return the URL, redacted except for owner and administrators: its query can contain a signature."""
    if template.url is None or principal.may_use(template.account_id):
        return template.url
    return redact_url(template.url)


def _bare(checksum: str | None) -> str | None:
    if checksum is None or is_url(checksum):  # a URL can contain a signature
        return None
    return bare_digest(checksum)


def _detail(ref: StoreRef, names: OwnerNames) -> DownloadDetail:
    store = names.stores.get(ref.store_id)
    return DownloadDetail(
        datastore=store.name if store else str(ref.store_id),
        download_percent=str(ref.percent),
        download_state=shown_state(ref),
        receivedbytes=ref.received_bytes,
        totalbytes=ref.total_bytes,
        systemvm=ref.agent_name,
    )

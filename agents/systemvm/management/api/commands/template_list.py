# SPDX-License-Identifier: Apache-2.0
"""listTemplates and listIsos: which rows they return, and with which keys."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from attrs import frozen

from systemvm.management import os_types
from systemvm.management.api.answers.templates import DownloadDetail, TemplateAnswer
from systemvm.management.api.command import ApiCall, ResultPage
from systemvm.management.api.commands.tags import tag_answers
from systemvm.management.api.errors import parameter_error
from systemvm.management.api.kept_rows import KeptRow, KeptRows
from systemvm.management.api.owner_names import OwnerNames, read_names
from systemvm.management.api.ownership import OWNERS, owners_of
from systemvm.management.api.paging import page_window, sort_order
from systemvm.management.api.parameters import (
    EVERY_ZONE,
    Parameter,
    ParameterType,
    named_uuids,
    only,
    optional,
    required,
)
from systemvm.management.api.principal import Principal
from systemvm.management.api.tag_parameters import TAGGED, wanted_tags
from systemvm.management.state import tags, template_list, zones
from systemvm.management.state.database import Connection
from systemvm.management.state.tags import Tag
from systemvm.management.state.template_list import TemplateCopy, TemplateFilter, Visibility
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.templates.status_text import shown_state, status_text
from systemvm.service.redaction import redact_url
from systemvm.wire.checksum import bare_digest, is_url

STRING, UUID, BOOLEAN, INTEGER, LIST, *_ = ParameterType  # in the order of their declaration

_ROWS: KeptRows[TemplateAnswer] = KeptRows()

FILTERS = tuple(each.value for each in Visibility if each is not Visibility.ANY_USABLE)


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
    TAGGED,
    *OWNERS,
    only("showremoved", BOOLEAN, "include deleted ones", False),
    optional("showunique", BOOLEAN, "true: return one row for each, whatever the number of its zones"),
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


def select(connection: Connection, call: ApiCall, kind: TemplateCategory) -> ResultPage:
    """Return the rows of a list's page.

    Raises: ApiError 431 for a filter that the caller must not use, or a page that does not exist.
    """
    window = page_window(call.arguments)
    copies, count = template_list.page(
        connection, _filter_of(connection, call, kind), window, sort_order(call.arguments)
    )
    names = read_names(connection)
    kept = _kept_rows(connection, copies, names, call.principal)
    return ResultPage([row.answer for row in kept], count, [row.json for row in kept])


def answers_of(connection: Connection, rows: list[Template], principal: Principal) -> list[TemplateAnswer]:
    """Return one row for each zone that a template is in, with what this caller has access to."""
    names = read_names(connection)
    copies = template_list.in_every_zone(connection, rows)
    return [row.answer for row in _kept_rows(connection, copies, names, principal)]


def _filter_of(connection: Connection, call: ApiCall, kind: TemplateCategory) -> TemplateFilter:
    arguments, principal = call.arguments, call.principal
    wanted = arguments.get(kind.filter_name, kind.default_filter)
    if wanted == "all" and not principal.is_admin:
        raise parameter_error(kind.filter_name, "Filter all can be specified by root admin only")
    visibility, owner_ids = Visibility(wanted), owners_of(connection, call).account_ids
    uuids = named_uuids(arguments)
    if uuids is not None:
        visibility = Visibility.ANY_USABLE
        owner_ids = principal.account_ids
    zone_uuid, category = arguments.get("zoneid", EVERY_ZONE), arguments.get("oscategoryid")
    return TemplateFilter(
        is_iso=kind.is_iso,
        visibility=visibility,
        viewer_id=principal.account.id,
        owner_ids=owner_ids,
        ready=arguments.flag("isready"),
        zone_id=None if zone_uuid == EVERY_ZONE else zones.zone_by_uuid(connection, zone_uuid).id,
        uuids=uuids,
        name=arguments.get("name"),
        hypervisor=arguments.get("hypervisor"),
        arch=arguments.get("arch"),
        type=arguments.get("templatetype"),
        os_types=None if category is None else os_types.stored_in_category(category),
        bootable=arguments.get("bootable"),
        public=arguments.get("ispublic"),
        keyword=arguments.text("keyword"),
        tags=wanted_tags(arguments),
        is_unique=arguments.flag("showunique"),
    )


def _kept_rows(
    connection: Connection, copies: Sequence[TemplateCopy], names: OwnerNames, principal: Principal
) -> list[KeptRow[TemplateAnswer]]:
    tagged = tags.of_objects(connection, dict.fromkeys(copy.template.uuid for copy in copies))
    return [_kept_row(copy, names, principal, tagged.get(copy.template.uuid, ())) for copy in copies]


def _kept_row(
    copy: TemplateCopy, names: OwnerNames, principal: Principal, tagged: Sequence[Tag]
) -> KeptRow[TemplateAnswer]:
    template = copy.template
    shows_url = principal.may_use(template.account_id)
    return _ROWS.get(
        (template.id, copy.zone_id, shows_url),
        (
            template,
            weakref.ref(names),
            *copy.refs,
            *tagged,
        ),  # all names, of which only the newest are to be kept
        lambda: _answer(copy, names, tagged, shows_url=shows_url),
    )


def _answer(
    copy: TemplateCopy, names: OwnerNames, tagged: Sequence[Tag], *, shows_url: bool
) -> TemplateAnswer:
    template, zone, ref = copy.template, names.zone(copy.zone_id), copy.ref
    account, domain = names.accounts[template.account_id], names.domains[template.domain_id]
    os_type = os_types.of_row(template.os_type)
    return TemplateAnswer(
        id=template.uuid,
        tags=tag_answers(tagged, names),
        name=template.name,
        displaytext=template.display_text,
        format=template.format.value,
        isready=copy.is_ready,
        status=status_text(ref, is_iso=template.is_iso),
        hint=None if ref is None or copy.is_ready else ref.error_hint,
        url=_shown_url(template, whole=shows_url),
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


def _shown_url(template: Template, *, whole: bool) -> str | None:
    """Return the URL, redacted except for owner and administrators: its query can contain a signature."""
    if template.url is None or whole:
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

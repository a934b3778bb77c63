# SPDX-License-Identifier: Apache-2.0
"""The service for templates and ISOs: register, retry, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from attrs import frozen

from systemvm.management.resource_limits import limits
from systemvm.management.state import events, store_refs, templates, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.resource_counts import ResourceType
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.state.zones import ImageStore
from systemvm.management.templates import downloads
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.registration import Registration
from systemvm.management.templates.sources import TemplateSources
from systemvm.management.templates.store_choice import (
    NoStoreError,
    StoreSettings,
    choose_store,
)
from systemvm.management.templates.store_usage import StoreUsage
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.storage import DownloadError
from systemvm.wire.transfer_failure import TransferFailure

T = TypeVar("T")
#: The maximum number of machines that the error of a deletion names.
MAX_NAMES = 20


class TemplateInUseError(SystemVmError):
    """A template or ISO that machines use; the message is CloudStack's."""

    code = FailureCode.WRONG_STATE


class TemplateStateError(SystemVmError):
    """An operation that the template's state excludes."""

    code = FailureCode.WRONG_STATE


class TemplateCopier(Protocol):
    """Copies templates to primary storage."""

    async def copy_template(self, template_id: int) -> None: ...


@frozen
class Owner:
    """The owner of a new template."""

    account_id: int
    domain_id: int
    user_id: int | None


class TemplateService:
    """Changes the rows of templates; `DownloadDispatcher` has SSVMs do the rest."""

    def __init__(
        self,
        database: Database,
        dispatch: DownloadDispatcher,
        machines: TemplateCopier,
        usage: StoreUsage,
        settings: StoreSettings,
        sources: TemplateSources,
    ) -> None:
        self._database = database
        self._dispatch = dispatch
        self._machines = machines
        self._usage = usage
        self._settings = settings
        self._sources = sources

    async def register(
        self, registration: Registration, owner: Owner, zone_id: int | None, request_id: str
    ) -> Template:
        """Create a template that is not ready, on the emptiest store of the zone or of every zone.

        Raises: NoStoreError when no store takes it, ResourceLimitError when its account has too many.
        """
        template, _ = await self._usage.choosing(
            create, registration, owner, zone_id, request_id, self._settings, self._sources
        )
        self._dispatch.wake()
        return template

    async def choosing(self, work: Callable[[Connection], T]) -> T:
        """Run a transaction that uses `create_in`, and have SSVMs get what it has created."""
        created = await self._usage.choosing(work)
        self._dispatch.wake()
        return created

    def create_in(
        self,
        connection: Connection,
        registration: Registration,
        owner: Owner,
        zone_id: int | None,
        request_id: str,
        accepts: Callable[[ImageStore], bool],
    ) -> Template:
        """Create a template that is not ready, on the emptiest store that `accepts`.

        It is not checked against its account's limit, because exports do not count.

        Raises: NoStoreError when no store takes it.
        """
        template, _ = _insert(
            connection, registration, owner, zone_id, request_id, self._settings, self._sources, accepts
        )
        return template

    async def retry(self, template_id: int, request_id: str) -> None:
        """Download it again wherever that failed.

        Raises: TemplateStateError when no download of it has failed.
        """
        if not await self._database.run(downloads.retry, template_id, request_id):
            failed = await self._database.read(store_refs.failed_of_template, template_id)
            if any(ref.upload_id is not None for ref in failed):
                raise TemplateStateError("It was uploaded, and has no URL", downloads.UPLOAD_AGAIN)
            if failed:
                raise TemplateStateError(
                    "It has neither a URL nor a copy on another store", "register it again with a URL"
                )
            raise TemplateStateError(
                "Its download has not failed", "wait for its end: only a failed download can be retried"
            )
        self._dispatch.wake()

    async def delete(self, template_id: int, *, forced: bool = False, zone_id: int | None = None) -> bool:
        """Delete it: at once for its users, then on its stores. Return whether all files are gone.

        With `zone_id` only its copies there, if it is in other zones as well.

        With `forced`, machines that use a template keep their disks and can start. An ISO in a machine's
        drive is never deleted.
        Raises: TemplateInUseError while machines use it.
        """
        while not await self._database.run(_hide, template_id, forced=forced, zone_id=zone_id):
            # machines that have not started yet need its file
            await self._machines.copy_template(template_id)
        await self._dispatch.delete(template_id)
        return await self._database.read(_is_off_stores, template_id)


def create(
    connection: Connection,
    registration: Registration,
    owner: Owner,
    zone_id: int | None,
    request_id: str,
    settings: StoreSettings,
    sources: TemplateSources,
) -> tuple[Template, StoreRef]:
    """Create a template for a user and its copies on the emptiest stores; return the first of these.

    Raises: NoStoreError when no store takes it, ResourceLimitError when its account has too many.
    """
    if registration.type not in templates.HIDDEN_TYPES:  # the file of a volume does not count
        limits.check(connection, owner.account_id, {ResourceType.template: 1})
    return _insert(
        connection, registration, owner, zone_id, request_id, settings, sources, lambda store: True
    )


def _insert(
    connection: Connection,
    registration: Registration,
    owner: Owner,
    zone_id: int | None,
    request_id: str,
    settings: StoreSettings,
    sources: TemplateSources,
    accepts: Callable[[ImageStore], bool],
) -> tuple[Template, StoreRef]:
    """Create a template and its copies on the emptiest stores that `accepts`; return the first of these.

    Raises: NoStoreError when no store takes it.
    """
    wanted = zones.list_zones(connection) if zone_id is None else [zones.zone_by_id(connection, zone_id)]
    expected = store_refs.expected_bytes(connection)
    stores = [
        choose_store(
            [store for store in zones.list_image_stores(connection, zone.id) if accepts(store)],
            settings.secondary_storage(zone.name).capacity_threshold,
            expected,
        )
        for zone in wanted
    ]
    if not stores:
        raise NoStoreError("There is no zone", "add a zone file to the zones directory")
    template, ref = templates.register(
        connection,
        account_id=owner.account_id,
        domain_id=owner.domain_id,
        zone_id=zone_id,
        store_id=stores[0].id,
        request_id=request_id,
        **registration.columns,
    )
    sources.register(connection, template.id, registration.source)
    refs = [ref] + [
        templates.add_store_ref(connection, template.id, store.id, request_id) for store in stores[1:]
    ]
    if not template.is_hidden:
        events.record(
            connection,
            "ISO.CREATE" if template.is_iso else "TEMPLATE.CREATE",
            f"{template.name} is registered",
            account_id=owner.account_id,
            domain_id=owner.domain_id,
            user_id=owner.user_id,
            resource_type="Iso" if template.is_iso else "Template",
            resource_uuid=template.uuid,
            request_id=request_id,
        )
    if (wrong := registration.checksum_error) is not None:
        hint = "register it again with the checksum that the publisher gives, or without one"
        for ref in refs:
            downloads.fail(
                connection, ref.id, DownloadError(TransferFailure.CHECKSUM_INVALID.value, wrong, hint)
            )
    return template, ref


def _hide(connection: Connection, template_id: int, *, forced: bool, zone_id: int | None = None) -> bool:
    """Hide a template from users; its copy on a store keeps its row until its files are gone.

    Return False and change nothing when it must be copied to primary storage first.
    """
    template = templates.by_id(connection, template_id)
    if template.removed is not None:
        return True
    if template.is_iso or not forced:
        _check_unused(connection, template)
    ref = templates.store_ref_of(connection, template_id)
    if ref is not None and ref.is_ready and templates.waiting_pools(connection, template_id):
        return False
    is_partial = zone_id is not None and templates.request_deletion_in_zone(connection, template, zone_id)
    if not is_partial:
        templates.request_deletion(connection, template_id)
    if template.is_hidden:
        return True
    events.record(
        connection,
        "ISO.DELETE" if template.is_iso else "TEMPLATE.DELETE",
        f"{template.name} is deleted" + (" in one of its zones" if is_partial else ""),
        account_id=template.account_id,
        domain_id=template.domain_id,
        resource_type="Iso" if template.is_iso else "Template",
        resource_uuid=template.uuid,
    )
    return True


def _check_unused(connection: Connection, template: Template) -> None:
    """Apply CloudStack's rule (listNonExpungedByTemplate): a machine that can be recovered uses it, too."""
    found = templates.machines_of(connection, template, MAX_NAMES + 1)
    if not found:
        return
    names = ", ".join(found[:MAX_NAMES]) + (", …" if len(found) > MAX_NAMES else "")
    if template.is_iso:
        raise TemplateInUseError(
            f"Unable to delete ISO, as it's used by {names}",
            "detach it first with detachIso, or expunge them",
        )
    raise TemplateInUseError(
        f"Unable to delete template with id: {template.uuid} because VM instances: [{names}] are using it.",
        "expunge them first, or delete it with forced=true: they keep their disks",
        value=template.uuid,
    )


def _is_off_stores(connection: Connection, template_id: int) -> bool:
    return not templates.has_files_to_delete(connection, template_id)

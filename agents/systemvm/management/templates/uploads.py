# SPDX-License-Identifier: Apache-2.0
"""Templates that their users upload to an SSVM, by a URL that the daemon signs (reference 2.15).

An upload is a copy on a store like a download's, with `upload_id` set: the dispatcher sends its order again
after every restart of either end. It stays with one SSVM, whose address its URL has.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from attrs import field, frozen
from twisted.logger import Logger

from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.state import events, store_refs, templates, uploads, zones
from systemvm.management.state.columns import new_uuid, now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.storage_quota import limit_bytes, quota_left
from systemvm.management.state.templates import StoreRef, Template
from systemvm.management.state.zones import Zone
from systemvm.management.templates import downloads, service
from systemvm.management.templates.dispatch import DownloadDispatcher
from systemvm.management.templates.public_servers import AdvertisedAt, PublicServer, servers_of
from systemvm.management.templates.registration import Registration
from systemvm.management.templates.service import Owner, TemplateStateError
from systemvm.management.templates.sources import TemplateSources
from systemvm.management.templates.ssvm_calls import CALL_DEADLINE_S
from systemvm.management.templates.store_choice import StoreSettings
from systemvm.management.templates.store_usage import StoreUsage
from systemvm.management.templates.upload_signing import UploadSigner, expires_text, new_metadata
from systemvm.rpc.core.errors import RpcError
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.agent import Capability
from systemvm.wire.role import Role
from systemvm.wire.storage import TEMPLATE_ABORT, DownloadAbort
from systemvm.wire.upload import MAX_UPLOADS, UPLOAD_PATH

#: Each waits for one SSVM, in one of its places.
MAX_UPLOADS_OF_ACCOUNT = MAX_UPLOADS // 4
#: How many SSVMs are tried: the caller waits.
MAX_TRIES = 2


class UploadError(SystemVmError):
    """An upload that no SSVM can receive now."""

    code = FailureCode.UNAVAILABLE


class UploadLimitError(SystemVmError):
    """An account with too many uploads that have not ended."""

    code = FailureCode.NO_CAPACITY


@frozen
class UploadParameters:
    """What a client sends an image to, and with which headers."""

    template_uuid: str
    post_url: str = field(repr=False)
    metadata: str
    expires: str
    signature: str = field(repr=False)


class TemplateUploads:
    """Creates uploads and renews their parameters."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        agents: ConnectedAgents,
        dispatch: DownloadDispatcher,
        usage: StoreUsage,
        settings: StoreSettings,
        sources: TemplateSources,
        signer: UploadSigner,
    ) -> None:
        self._database = database
        self._agents = agents
        self._dispatch = dispatch
        self._usage = usage
        self._settings = settings
        self._sources = sources
        self._signer = signer

    async def create(
        self,
        registration: Registration,
        owner: Owner,
        zone: Zone,
        request_id: str,
        created: Callable[[Connection, Template], object] = lambda connection, template: None,
    ) -> UploadParameters:
        """Create a template without a URL, and have an SSVM of the zone wait for its file.

        `created` is called in the transaction that creates it, which can run more than once.

        Raises: UploadError when no SSVM can receive it, NoStoreError when no store takes it,
        UploadLimitError when the account has too many.
        """
        servers = await self._servers(zone)

        def create(connection: Connection) -> tuple[Template, StoreRef]:
            template, ref = self._create(connection, servers[0], zone, registration, owner, request_id)
            created(connection, template)
            return template, ref

        template, ref = await self._usage.choosing(create)
        try:
            return await self._order(template, ref, servers, zone)
        except UploadError:
            await self._database.run(templates.request_deletion, template.id)
            self._dispatch.wake()
            raise

    async def renew(self, template_id: int, request_id: str) -> UploadParameters:
        """Return new parameters of an upload: the same URL for one that has begun, else another one.

        One of which nothing was received goes to another SSVM, too, when its own is not connected.

        Raises: TemplateStateError when there is nothing to upload, UploadError when its SSVM cannot be
        reached, or no other can receive it.
        """
        template, ref, zone = await self._database.read(_to_renew, template_id)
        is_away = self._agents.peer(ref.agent_name or "") is None
        if ref.state.ended or not ref.has_begun or (is_away and not ref.received_bytes):
            await self._abort(ref)
            servers = await self._servers(zone)
            ref = await self._database.run(self._place, ref.id, servers[0], zone, request_id)
            return await self._order(template, ref, servers, zone)
        name = ref.agent_name or ""
        if is_away:
            raise UploadError(
                f"upload of {template.name} cannot go on now: {name} is not connected",
                f'wait until {name} is Up; see "systemvm system-vm why {name}"',
            )
        await self._database.run(uploads.extend, ref.upload_id or "", self._expires(zone))
        return await self._ordered(template, await self._dispatch.order(ref.id))

    async def _abort(self, ref: StoreRef) -> None:
        """Free the place of an upload that has not begun; a job that nobody wants is aborted later anyway."""
        peer = self._agents.peer(ref.agent_name or "")
        if peer is None or ref.state.ended:
            return
        try:
            await peer.call(TEMPLATE_ABORT, DownloadAbort(ref.job_id), deadline_s=CALL_DEADLINE_S)
        except RpcError as error:
            self._log.info("{agent} did not abort an upload: {error}", agent=ref.agent_name, error=error)

    async def _servers(self, zone: Zone) -> list[PublicServer]:
        """Return the SSVMs of a zone, the one with the fewest uploads first."""

        def advertised_at(address: str) -> PublicEndpoint:
            return self._settings.secondary_storage(zone.name, address).endpoint

        found = await self._database.read(_by_load, zone.id, self._agents.up(Role.SSVM), advertised_at)
        servers = [server for server in found if self._agents.can(server.name, Capability.UPLOADS)]
        if found and not servers:
            names = ", ".join(server.name for server in found)
            raise UploadError(
                f"Images cannot be uploaded: the image of {names} is too old to receive them.",
                f'restart {names} by "systemvm system-vm reboot": it starts from the newest image',
            )
        if not servers:
            raise UploadError(
                "Images can be uploaded in a few minutes. Please try again later.",
                'No secondary storage VM of the zone is Up; see "systemvm system-vm list" for the reason.',
            )
        return servers[:MAX_TRIES]

    async def _order(
        self, template: Template, ref: StoreRef, servers: list[PublicServer], zone: Zone
    ) -> UploadParameters:
        """Send the order to the first SSVM that takes it; `ref` is placed on the first."""
        while True:
            try:
                return await self._ordered(template, await self._dispatch.order(ref.id))
            except UploadError:
                servers = servers[1:]
                if not servers:
                    raise
            ref = await self._database.run(self._place, ref.id, servers[0], zone, ref.request_id or "")

    async def _ordered(self, template: Template, ref: StoreRef) -> UploadParameters:
        """Return the parameters once the SSVM has the order.

        Raises: UploadError when it has refused it.
        """
        if ref.error_code is not None or ref.removed is not None:
            raise UploadError(
                f"{template.name} cannot be uploaded now: {ref.error_text or ref.error_hint or 'no answer'}",
                (ref.error_hint if ref.error_text else None) or "try again later",
            )
        return await self._database.read(self._parameters, template, ref)

    def _create(
        self,
        connection: Connection,
        server: PublicServer,
        zone: Zone,
        registration: Registration,
        owner: Owner,
        request_id: str,
    ) -> tuple[Template, StoreRef]:
        settings = self._settings
        if uploads.count_of_account(connection, owner.account_id) >= MAX_UPLOADS_OF_ACCOUNT:
            raise UploadLimitError(
                f"account has too many unfinished uploads: the maximum is {MAX_UPLOADS_OF_ACCOUNT}",
                "finish or delete one of them",
            )
        template, ref = service.create(
            connection, registration, owner, zone.id, request_id, settings, self._sources
        )
        quota_gib = settings.secondary_storage(zone.name).max_account_secondary_storage_gib
        if quota_left(connection, template, zone.id, None, quota_gib) == 0:
            most_bytes = limit_bytes(connection, template.account_id, quota_gib) or 0
            raise UploadLimitError(
                f"account has no secondary storage left: its limit is {most_bytes >> 30} GiB",
                "delete templates or ISOs that are not needed",
            )
        return template, self._place(connection, ref.id, server, zone, request_id)

    def _place(
        self, connection: Connection, ref_id: int, server: PublicServer, zone: Zone, request_id: str
    ) -> StoreRef:
        """Begin an upload anew, at this SSVM."""
        self._signer.make_key(connection)
        before = store_refs.by_id(connection, ref_id)
        if before.upload_id is not None:
            uploads.delete(connection, before.upload_id)
        upload_id = new_uuid()
        row = uploads.create(
            connection,
            upload_id=upload_id,
            post_url=f"{server.endpoint.url}{UPLOAD_PATH}{upload_id}",
            metadata=new_metadata(),
            expires=self._expires(zone),
        )
        ref = downloads.begin_upload(connection, ref_id, upload_id, server.name, request_id)
        _record_begin(connection, ref, server.name, row.expires)
        return ref

    def _expires(self, zone: Zone) -> datetime:
        timeout_s = self._settings.secondary_storage(zone.name).upload_operation_timeout
        return now() + timedelta(seconds=timeout_s)

    def _parameters(self, connection: Connection, template: Template, ref: StoreRef) -> UploadParameters:
        upload = uploads.of_ref(connection, ref)
        return UploadParameters(
            template.uuid,
            upload.post_url,
            upload.metadata,
            expires_text(upload.expires),
            self._signer.sign(connection, upload),
        )


def _by_load(
    connection: Connection, zone_id: int, up: list[str], advertised_at: AdvertisedAt
) -> list[PublicServer]:
    found = servers_of(connection, zone_id, up, advertised_at)
    return sorted(found, key=lambda server: (uploads.count_of_ssvm(connection, server.name), server.name))


def _to_renew(connection: Connection, template_id: int) -> tuple[Template, StoreRef, Zone]:
    template = templates.by_id(connection, template_id)
    ref = uploads.of_template(connection, template_id)
    if ref is None or template.removed is not None:
        raise TemplateStateError(
            f"{template.name} is not uploaded by its user",
            "call retryTemplate or retryIso: it has a URL",
            value=template.uuid,
        )
    best = templates.store_ref_of(connection, template_id)
    if best is not None and best.is_ready:
        raise TemplateStateError(
            f"{template.name} is Ready already", "upload another file under a new name", value=template.uuid
        )
    store = zones.store_by_id(connection, ref.store_id)
    return template, ref, zones.zone_by_id(connection, store.zone_id)


def _record_begin(connection: Connection, ref: StoreRef, agent_name: str, expires: datetime) -> None:
    template = templates.by_id(connection, ref.template_id)
    if template.is_hidden:
        return
    events.record(
        connection,
        "ISO.UPLOAD" if template.is_iso else "TEMPLATE.UPLOAD",
        f"{template.name} can be uploaded to {agent_name}, beginning before {expires:%Y-%m-%d %H:%M} UTC",
        account_id=template.account_id,
        domain_id=template.domain_id,
        resource_type="Iso" if template.is_iso else "Template",
        resource_uuid=template.uuid,
        request_id=ref.request_id,
    )

# SPDX-License-Identifier: Apache-2.0
"""Temporary links to images: created for users, and sent to every SSVM of their zone.

The daemon's database has the links, so they survive a restart of an SSVM. CloudStack keeps them as symbolic
links in the SSVM (reference 2.14).
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Protocol

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.image_stores.staging import Staging
from systemvm.management.pki.public import NotPermittedError, PublicIdentity
from systemvm.management.public_certificates.presented import PresentedCertificates
from systemvm.management.state import (
    events,
    extract_links,
    instances,
    store_buckets,
    store_object_links,
    templates,
    zones,
)
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.extract_links import ExtractLinkRow
from systemvm.management.state.templates import Template
from systemvm.management.state.zones import ImageStore, Zone
from systemvm.management.templates.public_servers import (
    PublicServer,
    public_address_of,
    servers_of,
)
from systemvm.rpc.core.errors import INVALID_PARAMS, METHOD_NOT_FOUND, NOT_CONNECTED, RpcError
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.service.periodic import Periodic
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.agent import Capability
from systemvm.wire.extract import (
    EXTRACT_LINKS,
    EXTRACT_PRESIGN,
    EXTRACT_SETUP,
    LINKS_PAGE,
    ExtractLink,
    ExtractLinks,
    ExtractSetup,
    PresignedLink,
    PresignRequest,
    link_file_name,
)
from systemvm.wire.role import Role
from systemvm.wire.storage import PublishedFile

CALL_DEADLINE_S = 95.0
#: No S3 server accepts a link that works longer.
MAX_PRESIGNED_S = 7 * 24 * 3600
#: A public certificate is valid for 90 days; an operator's files are read again as often.
RENEW_INTERVAL_S = 86400.0


class ExtractionError(SystemVmError):
    """An image to which there can be no link now."""

    code = FailureCode.UNAVAILABLE


class ExtractionSettings(Protocol):
    """The settings of a zone, read at the time of each link."""

    def secondary_storage(self, zone_name: str, address: str | None = None) -> SecondaryStorageConfig: ...


class IdentityIssuer(Protocol):
    """Issues public certificates, and notes who took them (`management/public_certificates/sites.py`)."""

    @property
    def presented(self) -> PresentedCertificates: ...

    def identity(
        self,
        endpoint: PublicEndpoint,
        advertised: PublicEndpoint | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
        /,
        *,
        also: str | None = None,
    ) -> PublicIdentity: ...


@frozen
class _InBucket:
    """The Ready copy of a template when it is in a bucket."""

    store: ImageStore
    file: PublishedFile
    has_public_links: bool


@frozen
class CreatedLink:
    """A link as its user gets it."""

    row: ExtractLinkRow
    url: str


class Extraction:
    """Creates links, and keeps the SSVMs that are Up informed of them."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        agents: ConnectedAgents,
        settings: ExtractionSettings,
        issuer: IdentityIssuer,
        staging: Staging,
        more_links: Callable[[int], Awaitable[list[ExtractLink]]] | None = None,
    ) -> None:
        """`more_links` returns links of a zone that others have made."""
        self._staging = staging
        self._database = database
        self._agents = agents
        self._settings = settings
        self._issuer = issuer
        self._more_links = more_links
        self._renewing = Periodic(clock, self.renew, RENEW_INTERVAL_S, what="renew the certificates of SSVMs")

    def start(self) -> None:
        self._renewing.start(now=False)

    def stop(self) -> None:
        self._renewing.stop()

    async def create(self, template_id: int, zone_id: int, request_id: str) -> CreatedLink:
        """Return a link to a template; a valid one of the same SSVM is used again.

        A link to a bucket leads to its own server, or, when users cannot reach that, to a copy on NFS.

        Raises: ExtractionError when no SSVM can serve it, StagingError when it cannot be copied.
        """
        zone = await self._database.read(zones.zone_by_id, zone_id)
        settings = self._settings.secondary_storage(zone.name)
        bucket = await self._database.read(_in_bucket, template_id, zone_id)
        if bucket is not None and bucket.has_public_links:
            return await self._presign(bucket, template_id, zone_id, settings, request_id)
        if bucket is not None:
            await self._staging.ensure(template_id, zone_id, for_host=False)
        servers = await self.servers(zone)
        lifetime = timedelta(seconds=settings.extract_url_expiration_interval)
        row = await self._database.run(_create, template_id, zone_id, servers, lifetime, request_id)
        link = await self._database.read(_wire_link, row)
        await self.serve(link, servers, row.origin)
        return CreatedLink(row, row.origin + link.path)

    async def servers(self, zone: Zone) -> list[PublicServer]:
        """Return the SSVMs of a zone that serve links.

        Raises: ExtractionError when there is none.
        """
        found = await self._servers(zone)
        servers = [server for server in found if self._agents.can(server.name, Capability.LINKS)]
        if found and not servers:
            raise _no_links(found)
        if not servers:
            raise _no_ssvm()
        return servers

    async def serve(self, link: ExtractLink, servers: list[PublicServer], origin: str) -> None:
        """Have these SSVMs serve a link.

        Raises: ExtractionError when the one with the link's origin does not.
        """
        first: RpcError | None = None
        # the SSVM of the link is last: its error is the caller's
        for server in sorted(servers, key=lambda each: each.endpoint.url == origin):
            first = await self._send(server.name, ExtractLinks([link]))
        if first is not None:
            raise ExtractionError(_message_of(first), _hint_of(first))

    async def _presign(
        self,
        bucket: _InBucket,
        template_id: int,
        zone_id: int,
        settings: SecondaryStorageConfig,
        request_id: str,
    ) -> CreatedLink:
        """Return a link to the server of a bucket."""
        lifetime = settings.extract_url_expiration_interval
        order = PresignRequest(bucket.store.wire, bucket.file, int(min(lifetime, MAX_PRESIGNED_S)))
        url = await self.presigned(zone_id, order)
        origin = bucket.store.url.rpartition("/")[0]
        row = await self._database.run(
            _create_row, template_id, zone_id, origin, timedelta(seconds=order.expires_s), request_id
        )
        return CreatedLink(row, url)

    async def presigned(self, zone_id: int, order: PresignRequest) -> str:
        """Have an SSVM of a zone, which has the keys, sign a link to the server of a bucket.

        Raises: ExtractionError when there is none, or it refuses.
        """
        names = await self._database.read(instances.names_of_ssvms_by_zone)
        up = self._agents.up(Role.SSVM)
        name = next((each for each in names.get(zone_id, []) if each in up), None)
        peer = None if name is None else self._agents.peer(name)
        if peer is None:
            raise _no_ssvm()
        try:
            link: PresignedLink = await peer.call(
                EXTRACT_PRESIGN, order, result=PresignedLink, deadline_s=CALL_DEADLINE_S
            )
        except RpcError as error:
            raise ExtractionError(_message_of(error), _hint_of(error)) from None
        return link.url

    async def agent_up(self, name: str) -> None:
        """Send the certificate and all links of its zone to an SSVM; never raises for a refusal."""
        vm = await self._database.read(instances.by_instance_name, name)
        zone = await self._database.read(zones.zone_by_id, vm.zone_id)
        address = await self._database.read(public_address_of, vm)
        if address is None or await self._set_up(name, address, zone.name) is not None:
            return
        links = [
            *await self._database.read(_wire_links, vm.zone_id),
            *await self._database.read(store_object_links.wire_links, vm.zone_id),
            *([] if self._more_links is None else await self._more_links(vm.zone_id)),
        ]
        for start in range(0, max(1, len(links)), LINKS_PAGE):
            page = ExtractLinks(links[start : start + LINKS_PAGE], is_first=not start)
            if await self._send(name, page) is not None:
                return

    async def renew(self) -> None:
        """Send new certificates, and forget links that have expired."""
        await self._database.run(extract_links.delete_expired)
        for name in self._agents.up(Role.SSVM):
            await self.agent_up(name)

    async def send_certificates(self) -> list[str]:
        """Send every SSVM that is Up its certificate; return which refused it, and why."""
        refused = []
        for name in self._agents.up(Role.SSVM):
            vm = await self._database.read(instances.by_instance_name, name)
            zone = await self._database.read(zones.zone_by_id, vm.zone_id)
            address = await self._database.read(public_address_of, vm)
            error = None if address is None else await self._set_up(name, address, zone.name)
            if error is not None and error.code == INVALID_PARAMS:
                refused.append(f"{name}: {error.message}")
        return refused

    async def _servers(self, zone: Zone) -> list[PublicServer]:
        def advertised_at(address: str) -> PublicEndpoint:
            return self._settings.secondary_storage(zone.name, address).endpoint

        up = self._agents.up(Role.SSVM)
        return await self._database.read(servers_of, zone.id, up, advertised_at)

    async def _set_up(self, name: str, address: str, zone_name: str) -> RpcError | None:
        settings = self._settings.secondary_storage(zone_name, address)
        endpoint = settings.endpoint.at(ip_address(address))
        try:
            identity = _identity(self._issuer, endpoint, address, settings)
        except (NotPermittedError, OSError) as error:
            self._log.warn("no certificate for the links of {name}: {error}", name=name, error=str(error))
            return RpcError(NOT_CONNECTED, str(error))
        proxies = settings.trusted_proxies
        setup = ExtractSetup(endpoint.url, identity.certificate_pem, identity.private_key_pem, proxies)
        refused = await self._call(name, EXTRACT_SETUP, setup)
        if refused is None:
            self._issuer.presented.took(name, endpoint.host, identity)
        elif refused.code == INVALID_PARAMS:
            self._issuer.presented.refused(name, endpoint.host, refused.message)
        return refused

    async def _send(self, name: str, links: ExtractLinks) -> RpcError | None:
        return await self._call(name, EXTRACT_LINKS, links)

    async def _call(self, name: str, method: str, params: object) -> RpcError | None:
        """Call an SSVM; return why it failed, if it did."""
        peer = self._agents.peer(name)
        if peer is None:
            return RpcError(METHOD_NOT_FOUND, f"{name} is not connected")
        try:
            await peer.call(method, params, result=Acknowledgement, deadline_s=CALL_DEADLINE_S)
        except RpcError as error:
            self._log.info("{name} refused {method}: {error}", name=name, method=method, error=error)
            return error
        return None


def _identity(
    issuer: IdentityIssuer, endpoint: PublicEndpoint, address: str, settings: SecondaryStorageConfig
) -> PublicIdentity:
    if endpoint.scheme == "http":
        return PublicIdentity("", "")
    return issuer.identity(
        endpoint,
        settings.endpoint,
        settings.certificate_file,
        settings.key_file,
        also=address,  # by which SSVMs of other zones copy
    )


def _no_ssvm() -> ExtractionError:
    return ExtractionError(
        "Images can be downloaded in a few minutes. Please try again later.",
        'No secondary storage VM of the zone is Up; see "systemvm system-vm list" for the reason.',
    )


def _no_links(servers: list[PublicServer]) -> ExtractionError:
    names = ", ".join(server.name for server in servers)
    return ExtractionError(
        f"Images cannot be downloaded: the image of {names} is too old to serve them.",
        f'restart {names} by "systemvm system-vm reboot": it starts from the newest image',
    )


def _in_bucket(connection: Connection, template_id: int, zone_id: int) -> _InBucket | None:
    """Return the Ready copy that is taken, if it is in a bucket."""
    ref = templates.store_ref_of(connection, template_id, zone_id)
    file = None if ref is None or not ref.is_ready else templates.file_of(ref)
    if ref is None or file is None:
        return None
    store = zones.store_by_id(connection, ref.store_id)
    bucket = store_buckets.of_store(connection, store.id) if store.is_bucket else None
    return None if bucket is None else _InBucket(store, file, bucket.has_public_links)


def _message_of(error: RpcError) -> str:
    if error.code == METHOD_NOT_FOUND:
        return "the secondary storage VM cannot serve links"
    return f"the secondary storage VM cannot serve the link: {error.message}"


def _hint_of(error: RpcError) -> str:
    return error.hint or "destroy the secondary storage VM: the daemon creates one from the current image"


def _create(
    connection: Connection,
    template_id: int,
    zone_id: int,
    servers: list[PublicServer],
    lifetime: timedelta,
    request_id: str,
) -> ExtractLinkRow:
    extract_links.delete_expired(connection)
    origins = [server.endpoint.url for server in servers]
    for row in extract_links.live_of_template(connection, template_id, zone_id):
        if row.origin in origins:
            return row
    return _create_row(connection, template_id, zone_id, origins[0], lifetime, request_id)


def _create_row(
    connection: Connection,
    template_id: int,
    zone_id: int,
    origin: str,
    lifetime: timedelta,
    request_id: str,
) -> ExtractLinkRow:
    template = templates.by_id(connection, template_id)
    row = extract_links.create(
        connection,
        account_id=template.account_id,
        domain_id=template.domain_id,
        template_id=template_id,
        zone_id=zone_id,
        secret=str(uuid.uuid4()),
        origin=origin,
        file_name=link_file_name(template.name, template.format.extension),
        expires=now() + lifetime,
    )
    if template.type == templates.EXPORT:
        return row  # whoever has ordered it records what it is of
    events.record(
        connection,
        "ISO.EXTRACT" if template.is_iso else "TEMPLATE.EXTRACT",
        f"{template.name} can be downloaded by a link until {row.expires:%Y-%m-%d %H:%M} UTC",
        account_id=template.account_id,
        domain_id=template.domain_id,
        resource_type="Iso" if template.is_iso else "Template",
        resource_uuid=template.uuid,
        request_id=request_id,
    )
    return row


def _wire_link(connection: Connection, row: ExtractLinkRow) -> ExtractLink:
    """Return a link with the store that has the template now.

    Raises: ExtractionError when none has it.
    """
    template = templates.by_id(connection, row.template_id)
    link = _with_store(connection, row, template)
    if link is None:
        raise ExtractionError(f"{template.name} is not on a store of the zone", "wait until it is Ready")
    return link


def _wire_links(connection: Connection, zone_id: int) -> list[ExtractLink]:
    found = []
    for row in extract_links.live_of_zone(connection, zone_id):
        link = _with_store(connection, row, templates.by_id(connection, row.template_id))
        if link is not None:
            found.append(link)
    return found


def _with_store(connection: Connection, row: ExtractLinkRow, template: Template) -> ExtractLink | None:
    ref = templates.store_ref_of(connection, template.id, row.zone_id)
    if ref is None or not ref.is_ready:
        return None
    store = zones.store_rows.by_id(connection, ref.store_id)
    if store.is_bucket:  # its own server serves it
        return None
    account_id, number = templates.place_of(ref, template)
    expires, owner_id = row.expires.timestamp(), row.account_id
    place = (store.wire, account_id, number)
    return ExtractLink(row.secret, row.file_name, *place, expires, owner_id=owner_id)

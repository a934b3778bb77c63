# SPDX-License-Identifier: Apache-2.0
"""Temporary links to images: created for users, and sent to every SSVM of their zone.

The daemon's database has the links, so they survive a restart of an SSVM. CloudStack keeps them as symbolic
links in the SSVM (reference 2.14).
"""

from __future__ import annotations

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
    extract_links,
    instances,
    store_object_links,
    zones,
)
from systemvm.management.state.database import Database
from systemvm.management.state.extract_links import ExtractLinkRow
from systemvm.management.state.zones import Zone
from systemvm.management.templates.extraction_errors import no_links, no_ssvm, refused_by
from systemvm.management.templates.public_servers import (
    PublicServer,
    public_address_of,
    servers_of,
)
from systemvm.management.templates.template_links import (
    TemplateInBucket,
    create_row,
    find_or_create_row,
    in_bucket,
    wire_link,
    wire_links_of_zone,
)
from systemvm.rpc.core.errors import INVALID_PARAMS, METHOD_NOT_FOUND, NOT_CONNECTED, RpcError
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
)
from systemvm.wire.role import Role

CALL_DEADLINE_S = 95.0
#: No S3 server accepts a link that works longer.
MAX_PRESIGNED_S = 7 * 24 * 3600
#: A public certificate is valid for 90 days; an operator's files are read again as often.
RENEW_INTERVAL_S = 86400.0


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
        bucket = await self._database.read(in_bucket, template_id, zone_id)
        if bucket is not None and bucket.has_public_links:
            return await self._presign(bucket, template_id, zone_id, settings, request_id)
        if bucket is not None:
            await self._staging.ensure(template_id, zone_id, for_host=False)
        servers = await self.servers(zone)
        lifetime = timedelta(seconds=settings.extract_url_expiration_interval)
        row = await self._database.run(
            find_or_create_row, template_id, zone_id, servers, lifetime, request_id
        )
        link = await self._database.read(wire_link, row)
        await self.serve(link, servers, row.origin)
        return CreatedLink(row, row.origin + link.path)

    async def servers(self, zone: Zone) -> list[PublicServer]:
        """Return the SSVMs of a zone that serve links.

        Raises: ExtractionError when there is none.
        """
        found = await self._servers(zone)
        servers = [server for server in found if self._agents.can(server.name, Capability.LINKS)]
        if found and not servers:
            raise no_links(found)
        if not servers:
            raise no_ssvm()
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
            raise refused_by(first)

    async def _presign(
        self,
        bucket: TemplateInBucket,
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
            create_row, template_id, zone_id, origin, timedelta(seconds=order.expires_s), request_id
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
            raise no_ssvm()
        try:
            link: PresignedLink = await peer.call(
                EXTRACT_PRESIGN, order, result=PresignedLink, deadline_s=CALL_DEADLINE_S
            )
        except RpcError as error:
            raise refused_by(error) from None
        return link.url

    async def agent_up(self, name: str) -> None:
        """Send the certificate and all links of its zone to an SSVM; never raises for a refusal."""
        vm = await self._database.read(instances.by_instance_name, name)
        zone = await self._database.read(zones.zone_by_id, vm.zone_id)
        address = await self._database.read(public_address_of, vm)
        if address is None or await self._set_up(name, address, zone.name) is not None:
            return
        links = [
            *await self._database.read(wire_links_of_zone, vm.zone_id),
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

# SPDX-License-Identifier: Apache-2.0
"""Links by which an SSVM downloads an image from the SSVM of another zone: a copy between zones.

CloudStack has one password for all copies and lists the other SSVMs' addresses (reference 2.12). Here every
copy has a link of its own, whose secret follows from the job and the daemon's key. It is the same after a
restart of the daemon or of either SSVM, so the download continues, and nobody else can guess it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from attrs import evolve
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.host.zone import SecondaryStorageConfig
from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.pki.seal import Seal
from systemvm.management.state import copy_sources, instances, templates, zones
from systemvm.management.state.columns import now
from systemvm.management.state.copy_sources import CopySource
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.pending_work import DownloadTask
from systemvm.management.state.templates import StoreRef
from systemvm.management.templates.copy_orders import SourceLink, SourceUnavailableError
from systemvm.management.templates.extraction import ExtractionSettings
from systemvm.management.templates.public_servers import PublicServer, servers_of
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, NOT_CONNECTED, RpcError
from systemvm.service.periodic import Periodic
from systemvm.service.single_flight import SingleFlight
from systemvm.web.public_endpoint import PublicEndpoint
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.agent import Capability
from systemvm.wire.extract import EXTRACT_LINKS, LINKS_PAGE, ExtractLink, ExtractLinks, link_file_name
from systemvm.wire.role import Role
from systemvm.wire.source_networks import SsvmAddress

LIFETIME = timedelta(hours=4)
#: Links of copies that have not ended get their whole lifetime again.
RENEW_INTERVAL_S = 3600.0
CALL_DEADLINE_S = 60.0
#: The port on which an SSVM serves, whatever its advertised endpoint says.
LISTENER_PORT = 443


class CopyLinks:
    """Makes the links, and keeps the SSVMs of the source zones informed of them."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        agents: ConnectedAgents,
        settings: ExtractionSettings,
        seal: Seal,
        roots_pem: Callable[[], bytes],
        root_of: Callable[[str], str | None] = lambda host: None,
    ) -> None:
        """`roots_pem` returns the CAs that have signed the certificates of SSVMs.

        `root_of` returns the root of a host that has another one's, empty when everybody knows it.
        """
        self._database = database
        self._agents = agents
        self._settings = settings
        self._seal = seal
        self._roots_pem = roots_pem
        self._root_of = root_of
        self._sent: dict[tuple[int, str], ExtractLink] = {}  # by zone and path
        self._has_ended = False
        self._withdrawing = SingleFlight[None]()
        self._renewing = Periodic(clock, self.renew, RENEW_INTERVAL_S, what="renew the links of copies")

    def start(self) -> None:
        self._renewing.start(now=False)

    def stop(self) -> None:
        self._renewing.stop()

    async def link(self, task: DownloadTask, source: CopySource) -> SourceLink | None:
        """Return a link to the source that its SSVMs serve from now on; None when none of them can.

        Raises: SourceUnavailableError when no SSVM of its zone is Up.
        """
        zone = await self._database.read(zones.zone_by_id, source.store.zone_id)
        names = await self._database.read(_up_in, zone.id, self._agents.up(Role.SSVM))
        if not names:
            raise SourceUnavailableError(zone.name)

        def advertised_at(address: str) -> PublicEndpoint:
            return self._settings.secondary_storage(zone.name, address).endpoint

        servers = await self._database.read(servers_of, zone.id, names, advertised_at)
        wire = self._link_of(task.ref, task.template.name, source)
        self._sent[zone.id, wire.path] = wire
        for server in servers:
            if not self._agents.can(server.name, Capability.LINKS):
                continue
            error = await self._send(server.name, [wire])
            if error is None:
                root_pem = self._root_of(server.endpoint.host)
                settings = self._settings.secondary_storage(zone.name, server.address)
                endpoint = server.endpoint if root_pem is not None else _endpoint(server, settings)
                address = SsvmAddress(server.address, endpoint.port)
                ca_pem = None if endpoint.scheme == "http" else self._roots_pem().decode() + (root_pem or "")
                return SourceLink(endpoint.url + wire.path, address, ca_pem)
            if error.code != METHOD_NOT_FOUND:
                raise SourceUnavailableError(zone.name, f"{server.name}: {error.message}")
        return None

    async def links_of_zone(self, zone_id: int) -> list[ExtractLink]:
        """Return the links of the zone's copies that have not ended, with their whole lifetime."""
        links = await self._database.read(self._links_of_zone, zone_id)
        self._sent.update(((zone_id, link.path), link) for link in links)
        return links

    def ended(self) -> None:
        """Withdraw the links of copies that have ended."""
        if self._sent:
            self._has_ended = True
            self._withdrawing.start(None, self._withdraw_while_ended)

    async def _withdraw_while_ended(self) -> None:
        while self._has_ended:
            self._has_ended = False
            await self._withdraw()

    async def _withdraw(self) -> None:
        """Send the links of ended copies again as expired. An SSVM that is away forgets them when it is back:
        it gets a complete list.
        """
        sent = list(self._sent)  # before the rows are read: each of these has its row already
        for zone_id in {zone_id for zone_id, _ in sent}:
            wanted = {link.path for link in await self._database.read(self._links_of_zone, zone_id)}
            ended = [key for key in sent if key[0] == zone_id and key[1] not in wanted]
            links = [evolve(self._sent.pop(key), expires_unix_s=0.0) for key in ended]
            for name in await self._database.read(_up_in, zone_id, self._agents.up(Role.SSVM)):
                for start in range(0, len(links), LINKS_PAGE):
                    await self._send(name, links[start : start + LINKS_PAGE])

    def _links_of_zone(self, connection: Connection, zone_id: int) -> list[ExtractLink]:
        return [
            self._link_of(ref, templates.by_id(connection, ref.template_id).name, source)
            for ref, source in copy_sources.copies_from_zone(connection, zone_id)
        ]

    async def renew(self) -> None:
        """Send the links of all copies that have not ended to the SSVMs of their sources."""
        self.ended()
        for name in self._agents.up(Role.SSVM):
            vm = await self._database.read(instances.by_instance_name, name)
            links = await self.links_of_zone(vm.zone_id)
            for start in range(0, len(links), LINKS_PAGE):
                await self._send(name, links[start : start + LINKS_PAGE])

    def _link_of(self, ref: StoreRef, name: str, source: CopySource) -> ExtractLink:
        extension = source.file.name.rpartition(".")[2]
        return ExtractLink(
            self._seal.derive_uuid(f"link of copy {ref.job_id}"),
            link_file_name(name, extension if extension.isalnum() else "img"),
            source.store.wire,
            source.file.account_id,
            source.file.template_id,
            (now() + LIFETIME).timestamp(),
        )

    async def _send(self, name: str, links: list[ExtractLink]) -> RpcError | None:
        peer = self._agents.peer(name)
        if peer is None:
            return RpcError(NOT_CONNECTED, "it is not connected")
        try:
            await peer.call(
                EXTRACT_LINKS, ExtractLinks(links), result=Acknowledgement, deadline_s=CALL_DEADLINE_S
            )
        except RpcError as error:
            self._log.info("{name} does not serve a copy: {error}", name=name, error=error)
            return error
        return None


def _endpoint(server: PublicServer, settings: SecondaryStorageConfig) -> PublicEndpoint:
    """Return how another SSVM reaches this one.

    A fixed origin leads browsers to it through somebody else's proxy or forwarder; an SSVM uses the address
    itself, which the daemon's certificate has, too.
    """
    if settings.endpoint.is_wildcard or settings.certificate_file is not None:
        return server.endpoint
    return evolve(server.endpoint, host=server.address, port=LISTENER_PORT)


def _up_in(connection: Connection, zone_id: int, up: list[str]) -> list[str]:
    names = {vm.instance_name.lower() for vm in instances.list_system(connection, zone_id)}
    return [name for name in up if name.lower() in names]

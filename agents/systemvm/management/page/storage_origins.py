# SPDX-License-Identifier: Apache-2.0
"""The origins of SSVMs that the page sends uploads to: its content policy permits these and its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from systemvm.management.state import instances, zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.templates.public_servers import servers_of
from systemvm.web.public_endpoint import WILDCARD, PublicEndpoint


class StorageOrigins:
    """Reads them for each visit of the page; `advertised` returns a zone's endpoint by its name, or that of
    its SSVM with a public address.

    A page that was loaded before an SSVM got its address must be loaded again.
    """

    def __init__(self, database: Database, advertised: Callable[[str, str | None], PublicEndpoint]) -> None:
        self._database = database
        self._advertised = advertised

    async def list(self) -> list[str]:
        return await self._database.read(_origins, self._advertised)


def _origins(connection: Connection, advertised: Callable[[str, str | None], PublicEndpoint]) -> list[str]:
    found: dict[str, None] = {}
    ssvms = instances.names_of_ssvms_by_zone(connection)
    for zone in zones.list_zones(connection):
        endpoint = advertised(zone.name, None)
        if endpoint.host != WILDCARD:
            found[endpoint.origin] = None  # a policy has the same wildcard: https://*.storage.example.org
        names = ssvms.get(zone.id, [])
        for server in servers_of(connection, zone.id, names, partial(advertised, zone.name)):
            # one that has a name of its own, which the wildcard of the others does not cover
            if server.endpoint.is_ipv6:
                continue  # browsers report it as an error, and would not connect: uploads there need a name
            if endpoint.host == WILDCARD or not server.endpoint.host.endswith(
                endpoint.host.removeprefix("*")
            ):
                found[server.endpoint.origin] = None
    return list(found)

# SPDX-License-Identifier: Apache-2.0
"""The ways to a server: one permitted address each, of the server itself or of the zone's proxy."""

from __future__ import annotations

import socket
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.address_policy import Address, AddressPolicy
from systemvm.ssvm.fetch.connect import open_connection, open_tunnel
from systemvm.ssvm.fetch.resolve import Lookup, look_up, resolve, resolve_host
from systemvm.ssvm.limits import TransferLimits
from systemvm.wire.source_access import SourceProxy
from systemvm.wire.source_url import SourceUrl
from systemvm.wire.transfer_failure import TransferFailure


@frozen
class SourceRoute:
    """The address to connect to; through `proxy` it is the proxy's, and the proxy resolves the name."""

    address: Address
    port: int
    proxy: SourceProxy | None = None

    def connect(self, reactor: Any, url: SourceUrl, timeout_s: float) -> Deferred[socket.socket]:
        """Open a connection to the server in a thread; blocking mode, before TLS.

        It is not cancellable, because a socket that it opens must be closed.
        """

        def work() -> socket.socket:
            connection = open_connection(self.address, self.port, timeout_s)
            return connection if self.proxy is None else open_tunnel(connection, url, self.proxy, timeout_s)

        connecting: Deferred[socket.socket] = deferToThreadPool(reactor, reactor.getThreadPool(), work)
        return connecting


async def find_routes(
    reactor: Any,
    url: SourceUrl,
    policy: AddressPolicy,
    proxy: SourceProxy | None,
    limits: TransferLimits,
    lookup: Lookup = look_up,
) -> list[SourceRoute]:
    """Return the routes to try, in order.

    Raises: TransferError when the server's address or that of the proxy is denied, or there is none.
    """
    if proxy is None:
        addresses = await resolve(reactor, url, policy, limits, lookup)
        return [SourceRoute(address, url.port) for address in addresses]
    await _check_target(reactor, url, policy, limits, lookup)
    found = await resolve_host(reactor, proxy.host, proxy.port, limits, lookup)
    for address in found:
        # the operator named this address, but a name is whatever its server answers
        named = str(address) == proxy.host
        why = (evolve(policy, zone_denied=()) if named else policy).why_denied(address)
        if why is not None:
            raise TransferError(
                TransferFailure.URL_DENIED,
                f"proxy {proxy.authority} has a forbidden address: {why}",
                "write a proxy inside of this cloud's own networks as an address in secstorage_proxy",
            )
    return [SourceRoute(address, proxy.port, proxy) for address in found]


async def _check_target(
    reactor: Any, url: SourceUrl, policy: AddressPolicy, limits: TransferLimits, lookup: Lookup
) -> None:
    """Check the server behind a proxy as if it was connected to directly.

    A name that only the proxy can resolve passes: the proxy's own rules apply to it.
    """
    short = evolve(limits, lookup_timeout_s=min(limits.lookup_timeout_s, limits.proxied_lookup_timeout_s))
    try:
        await resolve(reactor, url, policy, short, lookup)
    except TransferError as error:
        if error.code not in (TransferFailure.NAME_NOT_FOUND, TransferFailure.NAME_SERVER_FAILED):
            raise

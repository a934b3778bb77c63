# SPDX-License-Identifier: Apache-2.0
"""The APIs of all registered hosts: one session for each, calls to one host one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Protocol, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredLock

from systemvm.management.foreign_hosts.access import (
    ApiExchange,
    HostAccess,
    exchange_with,
    read_fingerprint,
)
from systemvm.management.foreign_hosts.errors import ApiFault, ForeignHostError
from systemvm.management.foreign_hosts.hypervisors import ForeignHypervisor
from systemvm.management.foreign_hosts.inventory import HostInventory
from systemvm.management.foreign_hosts.vcenter import VcenterHost
from systemvm.management.foreign_hosts.xapi import XapiHost
from systemvm.management.name_lookup import LOOKUP_S, MOST_LOOKUP_S, NameLookup
from systemvm.service.slowness import scaled_s
from systemvm.wire.console import ConsoleTarget

T = TypeVar("T")
Address = IPv4Address | IPv6Address
#: The number of a host that is not registered yet.
TRIED = 0
_names = NameLookup()
#: Runs a function that blocks.
InThread = Callable[..., "Deferred[Any]"]


class HostApi(Protocol):
    """What every hypervisor's API answers; it blocks.

    Raises: ForeignHostError.
    """

    def inventory(self) -> HostInventory: ...
    def target(self, reference: str) -> ConsoleTarget: ...


class HostConnections:
    """The APIs by their access; one whose access changes is another one."""

    def __init__(
        self,
        in_thread: InThread,
        exchange: Callable[[HostAccess], ApiExchange] = exchange_with,
        resolve: Callable[[str], Iterable[str]] | None = None,
        fingerprint: Callable[[str, int], str] = read_fingerprint,
    ) -> None:
        self._in_thread = in_thread
        self._exchange = exchange
        self._resolve = resolve or resolved
        self._fingerprint = fingerprint
        self._apis: dict[int, tuple[HostAccess, HostApi, DeferredLock]] = {}

    async def inventory(self, host_id: int, access: HostAccess) -> HostInventory:
        """Return what the host lists, its addresses as numbers; names without an address are left out.

        Raises: ForeignHostError.
        """

        def ask(api: HostApi) -> HostInventory:
            listed = api.inventory()
            found = {str(address) for name in listed.addresses for address in self._addresses(name)}
            return evolve(listed, addresses=sorted(found))

        return await self._ask(host_id, access, ask)

    async def target(self, host_id: int, access: HostAccess, reference: str) -> ConsoleTarget:
        """Return where the console of a VM is now, by an address.

        Raises: ForeignHostError when the host cannot be reached, or has no such console.
        """

        def ask(api: HostApi) -> ConsoleTarget:
            return self._by_address(api.target(reference))

        return await self._ask(host_id, access, ask)

    async def fingerprint(self, access: HostAccess) -> str:
        """Return the SHA-256 fingerprint of the certificate that the API shows, without a login.

        Raises: ForeignHostError.
        """
        found: str = await self._in_thread(self._fingerprint, access.host, access.port)
        return found

    def forget(self, host_id: int) -> None:
        self._apis.pop(host_id, None)

    async def _ask(self, host_id: int, access: HostAccess, ask: Callable[[HostApi], T]) -> T:
        kept = self._apis.get(host_id)
        if kept is None or kept[0] != access:
            tried = self._apis.pop(TRIED, None)  # it has a session
            if tried is None or tried[0] != access:
                tried = (access, _api(access, self._exchange(access)), DeferredLock())
            kept = self._apis[host_id] = tried
        _, api, lock = kept

        def run() -> Deferred[T]:
            return self._in_thread(ask, api)

        return await lock.run(run)

    def _by_address(self, target: ConsoleTarget) -> ConsoleTarget:
        addresses = self._addresses(target.host)
        if not addresses:
            raise ForeignHostError(
                f"name of the console's host cannot be resolved: {target.host}",
                "add it to the name servers",
                ApiFault.UNRESOLVED,
            )
        tls = target.transport_tls
        named = tls
        if tls is not None and str(addresses[0]) != target.host:
            named = evolve(tls, server_name=tls.server_name or target.host)
        return evolve(target, host=str(addresses[0]), transport_tls=named)

    def _addresses(self, name: str) -> list[Address]:
        try:
            return [ip_address(name)]
        except ValueError:
            pass
        try:
            return sorted({ip_address(each) for each in self._resolve(name)}, key=lambda each: each.version)
        except (OSError, ValueError):  # also a name that IDNA does not allow
            return []


def resolved(name: str) -> list[str]:
    """Return the addresses of a name; it blocks, for a bounded time.

    Raises: OSError.
    """
    return _names.addresses(name, 0, min(scaled_s(LOOKUP_S), MOST_LOOKUP_S))


def _api(access: HostAccess, exchange: ApiExchange) -> HostApi:
    if access.hypervisor is ForeignHypervisor.XENSERVER:
        return XapiHost(access, exchange)
    return VcenterHost(access, exchange)

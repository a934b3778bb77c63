# SPDX-License-Identifier: Apache-2.0
"""The consoles of VMs on hosts that this daemon does not drive, for `console.target`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Protocol

from attrs import evolve
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThread

from systemvm.management.foreign_hosts.access import (
    ApiExchange,
    ForeignHostError,
    ForeignHypervisor,
    HostAccess,
    exchange_with,
)
from systemvm.management.foreign_hosts.vcenter import VcenterConsoles
from systemvm.management.foreign_hosts.xapi import XapiConsoles
from systemvm.wire.console import ConsoleTarget


class HostConsoles(Protocol):
    """Finds consoles by the names of VMs; it blocks.

    Raises: ForeignHostError.
    """

    def target(self, vm_name: str) -> ConsoleTarget: ...


class ForeignConsoles:
    """The consoles of all such hosts, by the names of the hosts."""

    def __init__(
        self,
        accesses: Mapping[str, HostAccess],
        exchange: Callable[[HostAccess], ApiExchange] = exchange_with,
        resolve: Callable[[str], str] = socket.gethostbyname,
    ) -> None:
        self._resolve = resolve
        self._hosts: dict[str, tuple[HostConsoles, DeferredLock]] = {
            name: (_consoles(access, exchange(access)), DeferredLock()) for name, access in accesses.items()
        }

    async def target(self, host_name: str, vm_name: str) -> ConsoleTarget:
        """Return where the console of a VM is now, by an address.

        Calls to one host follow one another, because they share its session.

        Raises: ForeignHostError when the host is not configured, cannot be reached, or has no such console.
        """
        if host_name not in self._hosts:
            raise ForeignHostError(
                f"host {host_name} has no access to its API", "describe it in managementd.yaml, hosts"
            )
        consoles, lock = self._hosts[host_name]

        def ask() -> Deferred[ConsoleTarget]:
            return deferToThread(self._find, consoles, vm_name)

        return await lock.run(ask)

    def _find(self, consoles: HostConsoles, vm_name: str) -> ConsoleTarget:
        target = consoles.target(vm_name)
        try:
            ip_address(target.host)
        except ValueError:
            pass
        else:
            return target
        try:
            address = self._resolve(target.host)
        except OSError:
            raise ForeignHostError(
                f"name of the console's host cannot be resolved: {target.host}", "add it to the name servers"
            ) from None
        tls = target.transport_tls
        named = None if tls is None else evolve(tls, server_name=tls.server_name or target.host)
        return evolve(target, host=address, transport_tls=named)


def _consoles(access: HostAccess, exchange: ApiExchange) -> HostConsoles:
    if access.hypervisor is ForeignHypervisor.XENSERVER:
        return XapiConsoles(access, exchange)
    return VcenterConsoles(access, exchange)

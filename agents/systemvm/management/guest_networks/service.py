# SPDX-License-Identifier: Apache-2.0
"""Keeps what this host serves on guest bridges the same as the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Protocol

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.host.bridges import HostNetwork
from systemvm.host.guest_filter import BoundGuest
from systemvm.host.guest_services import GuestBridge, GuestData
from systemvm.management.guest_networks.composition import bound_guests, compose
from systemvm.management.guest_networks.machine_data import data_of
from systemvm.management.network_helper import NetworkError
from systemvm.management.state.database import Database
from systemvm.service.periodic import Periodic

#: After this time, changes of other hosts are served here, and a dnsmasq that ended is started again.
_INTERVAL_S = 60.0


class GuestServices(Protocol):
    """Serves bridges, and returns why some cannot be."""

    async def serve(self, bridges: Sequence[GuestBridge]) -> dict[str, NetworkError]: ...
    async def put_data(self, bridge: str, address: IPv4Address, mac: str, data: GuestData) -> None: ...


class PortFilter(Protocol):
    """Has ports send from their machines' own addresses only."""

    async def bind_guests(self, guests: Iterable[BoundGuest]) -> None: ...


class GuestNetworks:
    """`prepare` before a machine starts, `update` after one is expunged; others follow within a minute."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        services: GuestServices,
        ports: PortFilter,
        labels: Mapping[str, HostNetwork],
        *,
        host_id: int,
    ) -> None:
        self._database = database
        self._services = services
        self._ports = ports
        self._labels = labels
        self._host_id = host_id
        self._lock = DeferredLock()
        self._begun = 0
        self._has_served = False
        self._failed: dict[str, str] = {}
        self._loop = Periodic(clock, self.update, _INTERVAL_S, what="serve guest networks")

    def start(self) -> None:
        self._loop.start(now=True)

    def stop(self) -> None:
        self._loop.stop()

    async def prepare(self, vm_id: int) -> None:
        """Serve a machine, which asks for its address and its data as soon as it runs."""
        await self.update()
        await self.send_data(vm_id)

    async def send_data(self, vm_id: int) -> None:
        """Have the metadata service answer a machine with what the rows say now; a failure is logged."""
        for nic, data in await self._database.read(data_of, vm_id):
            try:
                await self._services.put_data(nic.bridge, nic.address, nic.mac, data)
            except NetworkError as error:
                self._log.warn(
                    "data of {name} is not served: {why}", name=nic.name, why=f"{error.message}; {error.hint}"
                )

    async def update(self) -> None:
        """Serve what the rows say now; a failure is logged, because machines run without it, too."""
        begun_before = self._begun
        async with self._lock:
            if self._begun > begun_before:
                return  # a run that began after this call has read its rows
            self._begun += 1
            bridges = await self._database.read(compose, self._labels, self._host_id)
            if not bridges and not self._has_served:
                return
            self._has_served = True
            try:
                # first: the metadata service knows a machine by its address
                await self._ports.bind_guests(await self._database.read(bound_guests, self._host_id))
                failed = await self._services.serve(bridges)
            except NetworkError as error:
                failed = {"all bridges": error}
            self._report({bridge: f"{error.message}; {error.hint}" for bridge, error in failed.items()})

    def _report(self, failed: dict[str, str]) -> None:
        for bridge, why in failed.items():
            if self._failed.get(bridge) != why:
                self._log.warn("guest network on {bridge} is not served: {why}", bridge=bridge, why=why)
        for bridge in self._failed.keys() - failed.keys():
            self._log.info("guest network on {bridge} is served again", bridge=bridge)
        self._failed = failed

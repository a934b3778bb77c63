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
from systemvm.host.guest_vlans import GuestLink
from systemvm.management.guest_networks import vlans
from systemvm.management.guest_networks.composition import bound_guests, compose, l2_ports
from systemvm.management.guest_networks.machine_data import data_of
from systemvm.management.network_helper import NetworkError, NoHelperError
from systemvm.management.pki.keystore import KeystoreError
from systemvm.management.pki.seal import Seal
from systemvm.management.state import machine_passwords
from systemvm.management.state.database import Database
from systemvm.service.periodic import Periodic

#: After this time, changes of other hosts are served here, and a dnsmasq that ended is started again.
_INTERVAL_S = 60.0
#: In the place of a bridge: no bridge is served.
_ALL_BRIDGES = "all bridges"


class GuestServices(Protocol):
    """Serves bridges, and returns why some cannot be."""

    async def serve(self, bridges: Sequence[GuestBridge]) -> dict[str, NetworkError]: ...
    async def stop(self, bridge: str) -> None: ...
    async def put_data(self, bridge: str, address: IPv4Address, mac: str, data: GuestData) -> None: ...
    async def taken_passwords(self) -> list[str]: ...


class HostNetworks(Protocol):
    """Guest VLANs of this host, and a filter that has ports send from their machines' own addresses only."""

    async def make_guest_links(self, links: Iterable[GuestLink]) -> dict[str, NetworkError]: ...
    async def bind_guests(self, guests: Iterable[BoundGuest], l2_ports: Iterable[str] = ()) -> None: ...


class GuestNetworks:
    """`implement` and `prepare` before a machine starts, `update` after one is expunged; others follow within
    a minute.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        services: GuestServices,
        ports: HostNetworks,
        labels: Mapping[str, HostNetwork],
        seal: Seal,
        *,
        host_id: int,
    ) -> None:
        self._database = database
        self._services = services
        self._ports = ports
        self._labels = labels
        self._seal = seal
        self._host_id = host_id
        self._lock = DeferredLock()
        self._begun = 0
        self._serves_none = False
        self._l2_ports: list[str] = []  # of the filter that was set last
        self._has_no_links = False
        self._is_filtered = False
        self._unsent: dict[int, str] = {}  # why, by the id of a machine
        self._failed: dict[str, str] = {}
        self._loop = Periodic(clock, self.update, _INTERVAL_S, what="serve guest networks")

    def start(self) -> None:
        self._loop.start(now=True)

    def stop(self) -> None:
        self._loop.stop()

    async def implement(self, vm_id: int) -> None:
        """Have the VLANs of a machine's networks on this host, before it starts.

        Raises: NoVlanError when a network of an account gets none, NetworkError when this host cannot have
            one.
        """
        async with self._lock:
            if not await self._database.run(vlans.take_vlans, vm_id, self._labels):
                return
            failed = await self._make_links()
            wanted = await self._database.read(vlans.bridges_of_vm, vm_id)
        for error in (failed[bridge] for bridge in wanted if bridge in failed):
            raise error

    async def restart(self, network_id: int) -> None:
        """Start the services of a network anew. Raises: NetworkError when they cannot be."""
        bridge = await self._database.read(vlans.bridge_of_id, network_id, self._labels)
        if bridge == vlans.NO_BRIDGE:
            return  # nothing runs on it
        async with self._lock:
            await self._services.stop(bridge)
        await self.update()
        failed = self._failed.get(bridge) or self._failed.get(_ALL_BRIDGES)
        if failed is not None:
            raise NetworkError(f"network is not served: {failed}")

    async def prepare(self, vm_id: int) -> None:
        """Serve a machine, which asks for its address and its data as soon as it runs."""
        await self.update()
        await self.send_data(vm_id)

    async def send_data(self, vm_id: int) -> None:
        """Have the metadata service answer a machine with what the rows say now; a failure is logged.

        What cannot be sent, or not before the filter is set, is sent after an update.
        """
        before = self._unsent.setdefault(vm_id, "")
        if not self._is_filtered:
            return
        failed = ""
        try:
            for nic, data in await self._database.read(data_of, vm_id, self._seal):
                if nic.bridge == vlans.NO_BRIDGE:
                    continue  # its network has no VLAN until the machine starts, which sends it again
                await self._services.put_data(nic.bridge, nic.address, nic.mac, data)
        except (NetworkError, KeystoreError) as error:
            failed = f"{error.message}; {error.hint}"
            if failed != before:
                self._log.warn("data of machine {vm} is not served: {why}", vm=vm_id, why=failed)
        if failed:
            self._unsent[vm_id] = failed
        else:
            self._unsent.pop(vm_id, None)

    async def update(self) -> None:
        """Serve what the rows say now; a failure is logged, because machines run without it, too."""
        begun_before = self._begun
        async with self._lock:
            if self._begun > begun_before:
                return  # a run that began after this call has read its rows
            self._begun += 1
            # first: the marks of taken passwords go with the services of a network that nothing runs on
            unread = await self._forget_taken_passwords()
            if unread is None:
                for network in await self._database.run(vlans.release_unused):
                    self._log.info("no virtual machine runs on network {name}", name=network.name)
            unlinked = await self._try_links()
            bridges = await self._database.read(compose, self._labels, self._host_id)
            unbound = await self._database.read(l2_ports, self._host_id)
            if not bridges and self._serves_none and not unlinked and unbound == self._l2_ports:
                self._report({})
                return
            failed = {**await self._serve(bridges, unbound, unread), **unlinked}
            self._serves_none = not bridges and not failed
            if bridges or unlinked or not all(isinstance(error, NoHelperError) for error in failed.values()):
                self._report({bridge: f"{error.message}; {error.hint}" for bridge, error in failed.items()})
            if self._is_filtered:
                for vm_id in sorted(self._unsent):
                    await self.send_data(vm_id)

    async def _forget_taken_passwords(self) -> NetworkError | None:
        """Forget the passwords that guests have taken, here and where these were served.

        Return why it is not known which these are; they stay marked there.
        """
        if not await self._database.read(machine_passwords.is_one_waiting):
            return None
        try:
            taken = await self._services.taken_passwords()
        except NetworkError as error:
            return error
        for vm_id in await self._database.run(machine_passwords.mark_taken, taken):
            self._unsent.setdefault(vm_id, "")
        return None

    async def _try_links(self) -> Mapping[str, NetworkError]:
        """Have the VLANs that the rows say, and no others; return why some are not there."""
        try:
            return await self._make_links()
        except NoHelperError as error:
            return {} if self._has_no_links else {"guest VLANs": error}
        except NetworkError as error:
            return {"guest VLANs": error}

    async def _make_links(self) -> dict[str, NetworkError]:
        links = await self._database.read(vlans.links, self._labels)
        if not links and self._has_no_links:
            return {}
        self._has_no_links = not links
        failed = await self._ports.make_guest_links(links)
        await self._database.run(vlans.note_implemented, self._labels, failed.keys())
        return failed

    async def _serve(
        self, bridges: Sequence[GuestBridge], unbound: list[str], unread: NetworkError | None
    ) -> Mapping[str, NetworkError]:
        """Serve these bridges, and end what an earlier daemon served; return why some are not served.

        `unbound` are ports on L2 networks. `unread` is why it is not known which passwords were taken: their
        marks must not be lost.
        """
        self._is_filtered = False
        try:
            # first: the metadata service knows a machine by its address
            await self._ports.bind_guests(await self._database.read(bound_guests, self._host_id), unbound)
            self._l2_ports = unbound
            self._is_filtered = True
            if unread is not None:
                raise unread
            return await self._services.serve(bridges)
        except NetworkError as error:
            return {_ALL_BRIDGES: error}

    def _report(self, failed: dict[str, str]) -> None:
        for bridge, why in failed.items():
            if self._failed.get(bridge) != why:
                self._log.warn("guest network on {bridge} is not served: {why}", bridge=bridge, why=why)
        for bridge in self._failed.keys() - failed.keys():
            self._log.info("guest network on {bridge} is served again", bridge=bridge)
        self._failed = failed

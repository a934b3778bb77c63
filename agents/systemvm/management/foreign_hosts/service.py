# SPDX-License-Identifier: Apache-2.0
"""Registers hosts that no daemon drives, lists their VMs, and finds the consoles of these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from attrs import frozen
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.foreign_hosts import synchronization
from systemvm.management.foreign_hosts.access import HostAccess
from systemvm.management.foreign_hosts.connections import TRIED, HostConnections
from systemvm.management.foreign_hosts.definition import HostChange, HostDefinition
from systemvm.management.foreign_hosts.errors import ApiFault, ForeignHostError, HostDefinitionError
from systemvm.management.foreign_hosts.hypervisors import ForeignHypervisor
from systemvm.management.foreign_hosts.inventory import HostInventory
from systemvm.management.pki.seal import Seal
from systemvm.management.state import foreign_hosts, zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.management.state.zones import Host
from systemvm.service.periodic import Periodic
from systemvm.service.single_flight import SingleFlight
from systemvm.wire.console import ConsoleTarget, TargetTls

#: Between two looks for hosts that are due.
LOOK_EVERY_S = 5.0
#: For the listing of one host, after which another daemon tries it.
LEASE = timedelta(minutes=5)
MAX_BACKOFF = 8
CONSOLE_PORT = 443


@frozen
class HostSettings:
    """What the service needs to know, and whom it calls."""

    refresh_s: float  # between two listings of a host
    end_consoles: Callable[[int], Awaitable[None]]  # of a VM
    addresses_changed: Callable[[], Awaitable[None]]  # those of consoles


class ForeignHosts:
    """The registered hosts. A listing costs its host one request of each kind, when it is due."""

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        seal: Seal,
        connections: HostConnections,
        settings: HostSettings,
    ) -> None:
        self._database = database
        self._seal = seal
        self._connections = connections
        self._settings = settings
        self._listing = SingleFlight[int]()
        look_s = min(LOOK_EVERY_S, settings.refresh_s)
        self._loop = Periodic(clock, self.list_due, look_s, what="list the VMs of hosts")

    def start(self) -> None:
        self._loop.start(now=True)

    def stop(self) -> None:
        self._loop.stop()

    # --- registration

    async def add(self, definition: HostDefinition) -> Host:
        """Register a host, which must answer now; its VMs are listed at once.

        Raises: HostDefinitionError when it is known or cannot be verified, ForeignHostError when it does not
            answer.
        """
        await self._database.read(_check_is_new, definition.url, definition.name)
        await self._check_is_verified(definition)
        inventory = await self._connections.inventory(TRIED, definition.access)
        host = await self._database.run(
            _insert, definition, self._seal.close(definition.password), self._due()
        )
        await self._apply(host.id, inventory)
        self.log.info("host {name} is registered: {url}", name=host.name, url=definition.url)
        return await self._database.read(zones.host_by_id, host.id)

    async def update(self, host_id: int, change: HostChange) -> Host:
        """Change how a host is reached; it must answer by the new access.

        Raises: as `add`.
        """
        row = await self._database.read(foreign_hosts.of_host, host_id)
        before = self._access(await self._database.read(zones.host_by_id, host_id), row)
        access = change.apply(before)
        if access != before:
            if access.host != before.host and change.password is None:
                # who may change a url must not learn the password by it
                raise HostDefinitionError(
                    "parameter password is missing: it is sent to another host",
                    "send username and password",
                    parameter="password",
                )
            inventory = await self._connections.inventory(TRIED, access)
            sealed = self._seal.close(access.password)
            await self._database.run(_replace_access, host_id, access, sealed)
            self._connections.forget(host_id)
            await self._apply(host_id, inventory)
        if change.name is not None:
            await self._database.run(_rename, host_id, change.name)
        return await self._database.read(zones.host_by_id, host_id)

    async def remove(self, host_id: int) -> None:
        """Forget a host and its VMs, whose consoles end. Nothing on the host is changed."""
        ended = await self._database.run(_remove, host_id)
        self._connections.forget(host_id)
        await self._end_consoles(ended)
        await self._settings.addresses_changed()

    async def _check_is_verified(self, definition: HostDefinition) -> None:
        tls = definition.access.tls
        if tls.ca_pem:
            return
        if definition.hypervisor is ForeignHypervisor.VMWARE:
            raise HostDefinitionError(
                "parameter cacertificate is missing: each ESXi host has a certificate of its own",
                "send the CA of the vCenter, as it is in https://VCENTER/certs/download.zip",
                parameter="cacertificate",
            )
        if tls.fingerprint:
            return
        found = await self._connections.fingerprint(definition.access)
        raise HostDefinitionError(
            f"certificate of {definition.access.host} is not verified: its SHA-256 fingerprint is {found}",
            "compare it on the host itself, then send it as fingerprint; or send cacertificate",
            parameter="fingerprint",
        )

    # --- listings

    async def list_due(self) -> None:
        """List all hosts that are due, at the same time, so that one that hangs delays no other."""
        due = await self._database.run(foreign_hosts.claim_due, LEASE)
        await gatherResults([Deferred.fromCoroutine(self._refresh_logged(host_id)) for host_id in due])

    async def refresh(self, host_id: int) -> Host:
        """List a host now, or join the listing that runs.

        Raises: ForeignHostError.
        """
        await self._listing.run(host_id, lambda: self._refresh(host_id))
        return await self._database.read(zones.host_by_id, host_id)

    async def _refresh_logged(self, host_id: int) -> None:
        try:
            await self.refresh(host_id)
        except (ForeignHostError, NotFoundError) as error:
            self.log.info("host {id} cannot be listed: {why}", id=host_id, why=error.message)
        except Exception:
            self.log.failure("cannot list the VMs of host {id}", id=host_id)

    async def _refresh(self, host_id: int) -> None:
        host, access = await self._access_of(host_id)
        try:
            inventory = await self._connections.inventory(host_id, access)
        except ForeignHostError as error:
            await self._database.run(_set_failed, host, error, self._settings.refresh_s)
            raise
        await self._apply(host_id, inventory)

    async def _apply(self, host_id: int, inventory: HostInventory) -> None:
        changes = await self._database.run(synchronization.apply, host_id, inventory)
        await self._database.run(foreign_hosts.update, host_id, due=self._due())
        await self._end_consoles(changes.removed)
        if changes.addresses:
            await self._settings.addresses_changed()

    async def _end_consoles(self, vm_ids: list[int]) -> None:
        for vm_id in vm_ids:
            await self._settings.end_consoles(vm_id)

    # --- consoles

    async def target(self, vm: Instance) -> ConsoleTarget:
        """Return where the console of a VM is now.

        Raises: ForeignHostError when its host is not registered, cannot be reached, or has no such console.
        """
        try:
            host, access = await self._access_of(vm.host_id or 0)
        except NotFoundError:
            raise ForeignHostError(
                f"host of {vm.name} is not registered any more", "register it with addHost"
            ) from None
        target = await self._connections.target(host.id, access, vm.host_reference or "")
        if not await self._is_of(host.id, target):
            await self.refresh(host.id)  # a host that has just joined its pool
        if not await self._is_of(host.id, target):
            raise ForeignHostError(
                f"console of {vm.name} is not at an address of {host.name}: {target.host}:{target.port}",
                "see consoleaddresses of listHosts; check the host",
                ApiFault.OTHER_ADDRESS,
            )
        return target

    async def _is_of(self, host_id: int, target: ConsoleTarget) -> bool:
        row = await self._database.read(foreign_hosts.of_host, host_id)
        return target.port == CONSOLE_PORT and target.host in row.addresses

    async def _access_of(self, host_id: int) -> tuple[Host, HostAccess]:
        row = await self._database.read(foreign_hosts.of_host, host_id)
        host = await self._database.read(zones.host_by_id, host_id)
        return host, self._access(host, row)

    def _access(self, host: Host, row: foreign_hosts.ForeignHost) -> HostAccess:
        return HostAccess(
            ForeignHypervisor(host.hypervisor),
            row.url,
            row.username,
            self._seal.open(row.sealed_password),
            TargetTls(ca_pem=row.ca_pem or "", fingerprint=row.fingerprint),
        )

    def _due(self) -> object:
        return now() + timedelta(seconds=self._settings.refresh_s)


def _check_is_new(connection: Connection, url: str, name: str) -> None:
    found = foreign_hosts.same_place(connection, url, name)
    if found is not None:
        raise HostDefinitionError(
            f"host {found.name} is registered already",
            "change it with updateHost, or choose another name",
            parameter="url" if foreign_hosts.same_place(connection, url, "") else "name",
        )


def _insert(connection: Connection, definition: HostDefinition, sealed: bytes, due: object) -> Host:
    _check_is_new(connection, definition.url, definition.name)
    access = definition.access
    host = zones.host_rows.insert(
        connection,
        name=definition.name,
        hypervisor=definition.hypervisor.value,
        zone_id=definition.zone_id,
        cluster_id=definition.cluster_id,
        account_id=definition.account_id,
        domain_id=definition.domain_id,
        address=access.host[:64],
        state="Up",
    )
    foreign_hosts.add(
        connection,
        host.id,
        url=access.url,
        username=access.username,
        sealed_password=sealed,
        ca_pem=access.tls.ca_pem or None,
        fingerprint=access.tls.fingerprint,
        due=due,
    )
    synchronization.record(connection, host, "HOST.ADD", f"is registered: {access.url}")
    return host


def _replace_access(connection: Connection, host_id: int, access: HostAccess, sealed: bytes) -> None:
    foreign_hosts.update(
        connection,
        host_id,
        url=access.url,
        username=access.username,
        sealed_password=sealed,
        ca_pem=access.tls.ca_pem or None,
        fingerprint=access.tls.fingerprint,
    )
    host = zones.host_rows.update(connection, host_id, address=access.host[:64])
    synchronization.record(connection, host, "HOST.EDIT", "is reached in another way")


def _rename(connection: Connection, host_id: int, name: str) -> None:
    host = zones.host_by_id(connection, host_id)
    if host.name == name:
        return
    taken = foreign_hosts.same_place(connection, "", name)
    if taken is not None and taken.id != host_id:
        raise HostDefinitionError(f"name of a host is taken: {name}", "choose another name", parameter="name")
    zones.host_rows.update(connection, host_id, name=name)


def _remove(connection: Connection, host_id: int) -> list[int]:
    foreign_hosts.of_host(connection, host_id)
    host = zones.host_by_id(connection, host_id)
    ended = synchronization.remove_all(connection, host)
    foreign_hosts.remove(connection, host_id)
    synchronization.record(connection, host, "HOST.DELETE", "is removed")
    return ended


def _set_failed(connection: Connection, host: Host, error: ForeignHostError, refresh_s: float) -> None:
    """Record why a host does not answer; its VMs keep their last state, and it is tried less often."""
    row = foreign_hosts.of_host(connection, host.id)
    wait_s = refresh_s * min(MAX_BACKOFF, 2**row.failures)
    foreign_hosts.update(
        connection,
        host.id,
        reason=error.message,
        hint=error.hint or None,
        failures=row.failures + 1,
        due=now() + timedelta(seconds=wait_s),
    )
    if host.state != "Alert":
        zones.host_rows.update(connection, host.id, state="Alert")
        synchronization.record(connection, host, "HOST.ALERT", error.message, level="WARN")

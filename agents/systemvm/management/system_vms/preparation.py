# SPDX-License-Identifier: Apache-2.0
"""Prepares agents before they are Up: mounts the stores of an SSVM, gives a CPVM its certificate."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from attrs import frozen
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from systemvm.host.zone import ZoneConfig
from systemvm.management.config import Configuration
from systemvm.management.control.agent import Agent, AgentStatus, NotReadyError, Remark
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.delay_messages import delay_of, explain
from systemvm.management.image_stores.buckets import StoreKeys
from systemvm.management.image_stores.capacity import record_usage
from systemvm.management.pki.public import NotPermittedError
from systemvm.management.public_certificates.remarks import CERTIFICATE, check_step, remark_on
from systemvm.management.public_certificates.sites import PublicSites
from systemvm.management.state import instances, zones
from systemvm.management.state.database import Database
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import AgentState
from systemvm.management.state.zones import ImageStore
from systemvm.management.templates.public_servers import public_address_of
from systemvm.rpc.core.errors import INVALID_PARAMS, RpcError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.agent import CheckStep
from systemvm.wire.console import CONSOLE_SETUP, ConsoleSetup
from systemvm.wire.role import Role
from systemvm.wire.slowness import Delay
from systemvm.wire.source_networks import STORAGE_SOURCES, SourceNetworks
from systemvm.wire.storage import STORAGE_SETUP, STORAGE_STATS, StoreStats

#: A mount waits for the NFS server; deadlines in the guest are shorter.
MOUNT_DEADLINE_S = 190.0
#: A store that takes longer to report its size is unusable.
STATS_DEADLINE_S = 20.0
SOURCES_DEADLINE_S = 60.0
REMARK = "stores"


_HINT = "check that the NFS server runs and exports the store to this SSVM"


@frozen
class _FailedStore:
    """A store that an SSVM cannot use, and why."""

    store: ImageStore
    error: RpcError


def _remark_of(failed: Sequence[_FailedStore]) -> Remark | None:
    """Return what is shown beside `Up` of an SSVM that can use other stores."""
    if not failed:
        return None
    texts = "; ".join(f"cannot use store {each.store.name}: {each.error.message}" for each in failed)
    return Remark(texts, failed[0].error.hint or _HINT)


class AgentPreparation:
    """The preparations of both roles; each is idempotent and runs at every connection."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        configuration: Configuration,
        directory: AgentDirectory,
        sites: PublicSites,
        keys: StoreKeys,
    ) -> None:
        self._database = database
        self._configuration = configuration
        self._directory = directory
        self._sites = sites
        self._keys = keys

    def subscribe(self) -> None:
        """Have the directory run both preparations."""
        self._directory.prepare(Role.SSVM, self.mount_stores)
        self._directory.prepare(Role.CPVM, self.set_up_console)

    async def mount_stores(self, agent: Agent) -> None:
        """Mount every store of the zone and record its size.

        Raises: NotReadyError when no store can be mounted; with some, the others are named beside `Up`.
        """
        await self._open_sources(agent)
        rows = await self._stores_of(agent)
        failed = await self._each_store(agent, rows, STORAGE_SETUP, MOUNT_DEADLINE_S)
        if failed and agent.peer is None:
            raise failed[0].error
        if failed and len(failed) == len(rows):
            raise NotReadyError(self._without_store(agent, failed[0].error))
        agent.remark(REMARK, _remark_of(failed))

    async def _open_sources(self, agent: Agent) -> None:
        """Send the present sites and the proxy of the zone: its file can have changed since the VM's start.

        An older agent has those of its start, and so has one that cannot change its firewall.
        """
        _, zone = await self._zone_of(agent)
        proxy = zone.source_proxy
        networks = SourceNetworks(zone.allowed_internal_sites, "" if proxy is None else proxy.authority)
        try:
            await self._directory.call(
                agent.name, STORAGE_SOURCES, networks, result=Acknowledgement, deadline_s=SOURCES_DEADLINE_S
            )
        except RpcError as error:
            self._log.info("{agent} keeps its sources: {error}", agent=agent.name, error=str(error))

    def _without_store(self, agent: Agent, error: RpcError) -> AgentStatus:
        """Return the status of an agent without a store: busy, or the fault of the NFS server."""
        load = self._directory.load(agent.name)
        delay = delay_of(error, load)
        if delay is Delay.BUSY:
            text = explain(delay, load)
            return AgentStatus(AgentState.ALERT, f"{text.reason}; its stores are not mounted yet", text.hint)
        return AgentStatus(AgentState.ALERT, f"has no store: {error.message}", error.hint or _HINT)

    async def measure_stores(self, agent: Agent) -> None:
        """Record the usage of its stores. A store that fails is mounted again, else named beside `Up`."""
        before = dict(agent.remarks)
        await self._look_at_certificate(agent)
        rows = await self._stores_of(agent)
        failed = await self._each_store(agent, rows, STORAGE_STATS, STATS_DEADLINE_S)
        again = [each.store for each in failed]
        failed = await self._each_store(agent, again, STORAGE_SETUP, MOUNT_DEADLINE_S)
        if failed and agent.peer is None:
            raise failed[0].error
        if failed and len(failed) == len(rows):
            status = self._without_store(agent, failed[0].error)
            agent.remark(REMARK, Remark(status.reason, status.hint))
        else:
            agent.remark(REMARK, _remark_of(failed))
        if agent.remarks != before and agent.is_up:
            self._directory.set_status(agent, agent.up_status())

    async def _look_at_certificate(self, agent: Agent) -> None:
        vm, zone = await self._zone_of(agent)
        names = self._sites.names(zone.name)
        address = await self._database.read(public_address_of, vm)
        if address is not None:
            settings = self._sites.secondary_storage(zone.name, zone.secondary_storage, address)
            endpoint = settings.endpoint.at(ip_address(address))
            agent.remark(CERTIFICATE, remark_on(self._sites, names, names.storage, endpoint, agent.name))

    def check_certificate(self, name: str) -> CheckStep | None:
        """Return what `systemvm check` says of the public certificate of a system VM."""
        return check_step(self._sites, name)

    async def _stores_of(self, agent: Agent) -> list[ImageStore]:
        vm = await self._database.read(instances.by_instance_name, agent.name)
        return await self._database.read(zones.list_stores, vm.zone_id)

    async def _each_store(
        self, agent: Agent, rows: Sequence[ImageStore], method: str, deadline_s: float
    ) -> list[_FailedStore]:
        """Call a method for the stores at the same time, so that one that hangs delays no other."""
        calls = [Deferred.fromCoroutine(self._one_store(agent, row, method, deadline_s)) for row in rows]
        return [failed for failed in await gatherResults(calls) if failed is not None]

    async def _one_store(
        self, agent: Agent, row: ImageStore, method: str, deadline_s: float
    ) -> _FailedStore | None:
        try:
            # only the setup has the keys of a bucket
            complete = method == STORAGE_SETUP
            store = await self._database.read(self._keys.complete, row) if complete else row.wire
            stats = await self._directory.call(
                agent.name, method, store, result=StoreStats, deadline_s=deadline_s
            )
        except RpcError as error:
            return _FailedStore(row, error)
        zone = await self._database.read(zones.zone_by_id, row.zone_id)
        settings = self._configuration.zone(zone.name).secondary_storage
        await self._database.run(record_usage, row.id, stats, settings.notification_threshold)
        return None

    async def set_up_console(self, agent: Agent) -> None:
        """Send the certificate of the advertised origin; one of the public CA is a fresh one.

        The consoles that are open go on; new handshakes use the new one.
        """
        vm, config = await self._zone_of(agent)
        console = config.console
        nics = await self._database.read(instances.nics_of, vm.id)
        outside = instances.outside_nic(nics)
        public = "" if outside is None else outside.reached_at or ""
        endpoint = self._sites.console(config.name, public)
        identity = self._sites.console_identity(config.name, public)
        setup = ConsoleSetup(
            endpoint.url,
            identity.certificate_pem,
            identity.private_key_pem,
            console.trusted_proxies,
            console.bind_address,
        )
        presented = self._sites.presented
        try:
            await self._directory.call(agent.name, CONSOLE_SETUP, setup)
        except RpcError as error:
            if error.code == INVALID_PARAMS:
                presented.refused(agent.name, endpoint.host, error.message)
            raise
        presented.took(agent.name, endpoint.host, identity)
        names = self._sites.names(config.name)
        agent.remark(CERTIFICATE, remark_on(self._sites, names, names.console, endpoint, agent.name))

    async def send_certificates(self) -> list[str]:
        """Send every CPVM that is Up its certificate; return which refused it, and why."""
        agents = [self._directory.agent(name) for name in self._directory.up(Role.CPVM)]
        calls = [
            Deferred.fromCoroutine(self._send_certificate(agent)) for agent in agents if agent is not None
        ]
        return [refusal for refusal in await gatherResults(calls) if refusal is not None]

    async def _send_certificate(self, agent: Agent) -> str | None:
        try:
            await self.set_up_console(agent)
        except RpcError as error:
            if error.code == INVALID_PARAMS:
                return f"{agent.name}: {error.message}"
            self._log.info("{name} gets its certificate later: {error}", name=agent.name, error=error)
        except (NotPermittedError, OSError) as error:
            self._log.warn("no certificate for {name}: {error}", name=agent.name, error=str(error))
        if agent.is_up:
            self._directory.set_status(agent, agent.up_status())
        return None

    async def _zone_of(self, agent: Agent) -> tuple[Instance, ZoneConfig]:
        vm = await self._database.read(instances.by_instance_name, agent.name)
        zone = await self._database.read(zones.zone_by_id, vm.zone_id)
        return vm, self._configuration.zone(zone.name)

# SPDX-License-Identifier: Apache-2.0
"""Measures the usage of image stores through an SSVM, after changes and on request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Concatenate, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.image_stores.capacity import record_usage
from systemvm.management.state import zones
from systemvm.management.state.database import Connection, Database
from systemvm.management.state.instances import names_of_ssvms_by_zone
from systemvm.management.templates.store_choice import StoreSettings, StoresFullError
from systemvm.rpc.core.errors import RpcError
from systemvm.service.single_flight import SingleFlight
from systemvm.wire import storage
from systemvm.wire.role import Role
from systemvm.wire.storage import StoreStats

P = ParamSpec("P")
T = TypeVar("T")

#: The deadline of one measurement; a store that is slower keeps its last figures.
MEASURE_DEADLINE_S = 10.0


class StoreUsage:
    """Runs one measurement of a store at a time; a request during one gets the figures of the next."""

    _log = Logger()

    def __init__(self, database: Database, agents: ConnectedAgents, settings: StoreSettings) -> None:
        self._database = database
        self._agents = agents
        self._settings = settings
        self._running = SingleFlight[int]()
        self._changed: set[int] = set()

    def changed(self, store_id: int) -> None:
        """Measure the store soon, once for all changes until then."""
        self._changed.add(store_id)
        self._running.start(store_id, lambda: self._measure_while_changed(store_id))

    async def refresh(self, store_ids: Iterable[int]) -> None:
        """Measure the stores now; a store that does not answer within the deadline keeps its figures."""
        await gatherResults([Deferred.fromCoroutine(self._refresh(store_id)) for store_id in store_ids])

    async def choosing(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a transaction that chooses a store; stores that seem full are measured again first.

        Raises: NoStoreError when no store takes the content.
        """
        refreshed: set[int] = set()
        while True:
            try:
                return await self._database.run(work, *args, **kwargs)
            except StoresFullError as full:
                ids = {store.id for store in full.stores}
                if ids <= refreshed:
                    raise
                await self.refresh(ids)
                refreshed |= ids

    async def _refresh(self, store_id: int) -> None:
        self._changed.add(store_id)
        await self._running.run(store_id, lambda: self._measure_while_changed(store_id))

    async def _measure_while_changed(self, store_id: int) -> None:
        while store_id in self._changed:
            self._changed.discard(store_id)
            try:
                await self._measure(store_id)
            except RpcError as error:
                self._log.info(
                    "usage of store {store} cannot be measured: {error}", store=store_id, error=error
                )
            except Exception:
                self._log.failure("measuring store {store} failed", store=store_id)

    async def _measure(self, store_id: int) -> None:
        row, zone, ssvms = await self._database.read(_facts, store_id)
        up = set(self._agents.up(Role.SSVM))
        peers = [self._agents.peer(name) for name in ssvms if name in up]
        if not peers or peers[0] is None:
            return
        stats: StoreStats = await peers[0].call(
            storage.STORAGE_STATS,
            row.wire,
            result=StoreStats,
            deadline_s=MEASURE_DEADLINE_S,
        )
        threshold = self._settings.secondary_storage(zone.name).notification_threshold
        await self._database.run(record_usage, store_id, stats, threshold)


def _facts(connection: Connection, store_id: int) -> tuple[zones.ImageStore, zones.Zone, list[str]]:
    row = zones.store_by_id(connection, store_id)
    zone = zones.zone_by_id(connection, row.zone_id)
    return row, zone, names_of_ssvms_by_zone(connection).get(row.zone_id, [])

# SPDX-License-Identifier: Apache-2.0
"""Has the store's helper remove what ended jobs have left on a store, one sweep of a store at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from systemvm.service.single_flight import SingleFlight
from systemvm.ssvm import store_messages
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.store_messages import SweepRequest
from systemvm.wire.storage import Store, StoreStats


class StoreSweeps:
    """The sweeps of the SSVM `owner`; they spare the jobs that `used_job_ids` returns."""

    def __init__(
        self, stores: StoreClient, owner: str, used_job_ids: Callable[[], Awaitable[list[str]]]
    ) -> None:
        self._stores = stores
        self._owner = owner
        self._used_job_ids = used_job_ids
        self._sweeps = SingleFlight[str]()  # by mount id

    async def ended(self, store: Store) -> None:
        """Return when no sweep of a store runs: it would remove the directory of a job that began later."""
        await self._sweeps.wait_until_ended(store_messages.mount_id(store))

    async def run(self, store: Store, wanted_job_ids: list[str] | None = None) -> StoreStats:
        """Remove what ended jobs have left on a store; return how full it is.

        Until the daemon has named the jobs that it wants, one that could continue is kept.
        """
        mount_id = store_messages.mount_id(store)

        async def sweep() -> StoreStats:
            keep = [*await self._used_job_ids(), *(wanted_job_ids or [])]
            order = SweepRequest(mount_id, self._owner, keep, keep_resumable=wanted_job_ids is None)
            stats: StoreStats = await self._stores.call(store_messages.SWEEP, order, StoreStats)
            return stats

        if wanted_job_ids is not None:  # one that runs could be another kind
            await self._sweeps.wait_until_ended(mount_id)
        stats: StoreStats = await self._sweeps.run(mount_id, sweep)
        return stats

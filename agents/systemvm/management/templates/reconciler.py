# SPDX-License-Identifier: Apache-2.0
"""What an SSVM has against what the database says: its downloads, and the templates on its stores.

Nothing is ever deleted for being unknown. A template that is Ready here and not on its store is downloaded
again; it takes a whole listing of a mounted store to say so.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from systemvm.management.control.agent import Agent
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.state import instances, pending_work, zones
from systemvm.management.state.database import Database
from systemvm.management.templates import downloads
from systemvm.management.templates.ssvm_calls import ZoneFacts
from systemvm.rpc.core.errors import INTERNAL, RpcError
from systemvm.wire import storage
from systemvm.wire.storage import (
    DownloadAbort,
    DownloadState,
    JobListing,
    Store,
    TemplateListing,
    TemplateListRequest,
)

LIST_DEADLINE_S = 100.0
ABORT_DEADLINE_S = 120.0
MAX_PAGES = 1000  # a million templates; an SSVM that goes on beyond that goes round in circles


class TemplateReconciler:
    """A step of the reconciliation."""

    _log = Logger()

    def __init__(
        self, database: Database, directory: AgentDirectory, zones_: ZoneFacts, wake: Callable[[], None]
    ) -> None:
        self._database = database
        self._directory = directory
        self._zones = zones_
        self._wake = wake

    async def reconcile(self, agent: Agent) -> None:
        """RpcError when the SSVM cannot tell what it has; nothing is changed then."""
        await self._jobs(agent)
        vm = await self._database.read(instances.by_instance_name, agent.name)
        zone = await self._database.read(zones.zone_by_id, vm.zone_id)
        for row in await self._database.read(zones.list_stores, zone.id):
            await self._templates(agent, row.id, self._zones.store(zone.name, row.name))

    async def _jobs(self, agent: Agent) -> None:
        """Ends that were missed are taken; what runs and is not wanted is stopped."""
        listing = await self._directory.call(agent.name, storage.STORAGE_JOBS, result=JobListing)
        wanted = await self._database.read(pending_work.wanted_jobs, agent.name)
        for status in listing.jobs:
            if status.state.ended:
                if status.job_id in wanted:
                    await self._database.run(downloads.apply_status, agent.name, status)
            elif status.job_id not in wanted:
                self._log.info("{name} works on job {job} in vain", name=agent.name, job=status.job_id)
                await self._directory.call(
                    agent.name,
                    storage.TEMPLATE_ABORT,
                    DownloadAbort(status.job_id),
                    deadline_s=ABORT_DEADLINE_S,
                )

    async def _templates(self, agent: Agent, store_id: int, store: Store) -> None:
        # What became Ready while the listing ran may be missing in it: only what was before counts.
        ready = await self._database.read(pending_work.ready_on, store_id)
        there = await self._list(agent, store)
        lost = [(ref_id, job_id) for ref_id, job_id, place in ready if place not in there]
        for ref_id, job_id in lost:
            again = await self._database.run(downloads.requeue, ref_id, job_id)
            if again is not None:
                self._log.warn(
                    "{template} is not on its store any more: {what}",
                    template=again.template_id,
                    what="it is downloaded again" if again.state is DownloadState.NOT_DOWNLOADED else "lost",
                )
        if lost:
            self._wake()

    async def _list(self, agent: Agent, store: Store) -> set[tuple[int, int]]:
        """Account and template of everything on a store, all pages of it."""
        found: set[tuple[int, int]] = set()
        after = ""
        for _ in range(MAX_PAGES):
            page = await self._directory.call(
                agent.name,
                storage.TEMPLATE_LIST,
                TemplateListRequest(store, after),
                result=TemplateListing,
                deadline_s=LIST_DEADLINE_S,
            )
            found |= {(each.account_id, each.template_id) for each in page.templates}
            if not page.next:
                return found
            after = page.next
        raise RpcError(INTERNAL, f"the listing of {agent.name} has no end")

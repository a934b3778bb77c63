# SPDX-License-Identifier: Apache-2.0
"""Compares the downloads of an SSVM and the templates on its stores with the database.

An unknown file is never deleted. A template that is Ready here and missing in a complete listing of a mounted
store is downloaded again.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from systemvm.management.control.agent import Agent
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.state import instances, pending_work, zones
from systemvm.management.state.database import Database
from systemvm.management.templates import downloads
from systemvm.rpc.core.errors import INTERNAL, METHOD_NOT_FOUND, RpcError
from systemvm.wire import storage
from systemvm.wire.storage import (
    DownloadAbort,
    DownloadState,
    JobListing,
    StorageSweep,
    Store,
    StoreStats,
    TemplateListing,
    TemplateListRequest,
)

LIST_DEADLINE_S = 100.0
ABORT_DEADLINE_S = 120.0
MAX_PAGES = 1000  # a million templates; more pages are a loop


class TemplateReconciler:
    """The step of AgentReconciler for SSVMs."""

    _log = Logger()

    def __init__(
        self,
        database: Database,
        directory: AgentDirectory,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._directory = directory
        self._wake = wake

    async def reconcile(self, agent: Agent) -> None:
        """Reconcile downloads and templates.

        Raises: RpcError when the SSVM cannot list what it has; nothing is changed then.
        """
        await self._jobs(agent)
        vm = await self._database.read(instances.by_instance_name, agent.name)
        for row in await self._database.read(zones.list_stores, vm.zone_id):
            await self._templates(agent, row.id, row.wire)
            await self._sweep(agent, row.wire)

    async def _jobs(self, agent: Agent) -> None:
        """Apply ends whose reports were lost, and abort jobs that no row expects."""
        listing = await self._directory.call(agent.name, storage.STORAGE_JOBS, result=JobListing)
        expected = await self._database.read(pending_work.expected_jobs, agent.name)
        for status in listing.jobs:
            if status.state.ended:
                if status.job_id in expected:
                    await self._database.run(downloads.apply_status, agent.name, status)
            elif status.job_id not in expected:
                self._log.info(
                    "{name} runs job {job}, which no row expects: aborting it",
                    name=agent.name,
                    job=status.job_id,
                )
                await self._directory.call(
                    agent.name,
                    storage.TEMPLATE_ABORT,
                    DownloadAbort(status.job_id),
                    deadline_s=ABORT_DEADLINE_S,
                )

    async def _templates(self, agent: Agent, store_id: int, store: Store) -> None:
        # The listing can lack what became Ready while it ran: only what was Ready before counts.
        ready = await self._database.read(pending_work.ready_on, store_id)
        there = await self._list(agent, store)
        lost = [(ref_id, job_id) for ref_id, job_id, place in ready if place not in there]
        for ref_id, job_id in lost:
            requeued = await self._database.run(downloads.requeue, ref_id, job_id)
            if requeued is not None:
                self._log.warn(
                    "template {template} is missing on its store: {what}",
                    template=requeued.template_id,
                    what="it is downloaded again"
                    if requeued.state is DownloadState.NOT_DOWNLOADED
                    else "lost",
                )
        if lost:
            self._wake()

    async def _sweep(self, agent: Agent, store: Store) -> None:
        """Have parts of downloads removed that nobody wants any more; an older agent keeps none."""
        expected = await self._database.read(pending_work.expected_jobs, agent.name)
        try:
            await self._directory.call(
                agent.name,
                storage.STORAGE_SWEEP,
                StorageSweep(store, sorted(expected)),
                result=StoreStats,
                deadline_s=LIST_DEADLINE_S,
            )
        except RpcError as error:
            if error.code != METHOD_NOT_FOUND:
                raise

    async def _list(self, agent: Agent, store: Store) -> set[tuple[int, int]]:
        """Return the account and template ids of everything on a store, from all pages."""
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
        raise RpcError(INTERNAL, f"listing of {agent.name} has more than {MAX_PAGES} pages")

# SPDX-License-Identifier: Apache-2.0
"""Compares the downloads of an SSVM and the templates on its stores with the database.

An unknown file is never deleted. A template that is Ready here and missing in a complete listing of a mounted
store is downloaded again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.logger import Logger

from systemvm.management.control.agent import Agent
from systemvm.management.control.directory import AgentDirectory
from systemvm.management.image_stores.inspection import list_templates
from systemvm.management.state import adoption, instances, pending_work, templates, zones
from systemvm.management.state.columns import now
from systemvm.management.state.database import Database
from systemvm.management.state.zones import ImageStore
from systemvm.management.templates import downloads
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.wire import storage
from systemvm.wire.storage import (
    DownloadAbort,
    DownloadState,
    JobListing,
    ListedTemplate,
    StorageSweep,
    Store,
    StoreStats,
    TemplateQuarantine,
)

LIST_DEADLINE_S = 100.0
ABORT_DEADLINE_S = 120.0
#: What a removed row has published is put away only when it is older than this.
LEFTOVER_AGE_S = 24 * 3600.0


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
        failed: RpcError | None = None
        for row in await self._database.read(zones.list_stores, vm.zone_id):
            try:
                await self._templates(agent, row, row.wire)
                if not row.read_only:
                    await self._sweep(agent, row.wire)
            except RpcError as error:
                failed = failed or error  # the other stores are reconciled all the same
        if failed is not None:
            raise failed

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

    async def _templates(self, agent: Agent, row: ImageStore, store: Store) -> None:
        # The listing can lack what became Ready while it ran: only what was Ready before counts.
        ready = await self._database.read(pending_work.ready_on, row.id)
        listed = await list_templates(partial(self._directory.call, agent.name), store)
        there = {(each.account_id, each.template_id) for each in listed if not each.is_damaged}
        lost = [(ref_id, job_id) for ref_id, job_id, place in ready if place not in there]
        for ref_id, job_id in lost:
            if row.is_staging:  # it is copied again when a host wants it
                await self._database.run(templates.update_store_ref, ref_id, removed=now())
                continue
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
        if not store.read_only:
            await self._put_away(agent, row.id, store, listed)

    async def _put_away(
        self, agent: Agent, store_id: int, store: Store, listed: list[ListedTemplate]
    ) -> None:
        """Have what this cloud has published and deleted long ago moved to the quarantine.

        A deletion can be lost with a database that was restored. What another cloud has put there stays.
        """
        old = now().timestamp() - LEFTOVER_AGE_S
        by_job = {each.job_id: each for each in listed if each.job_id and 0 < each.modified_unix_s < old}
        if not by_job:
            return
        for job_id in await self._database.read(adoption.forgotten_jobs, store_id, set(by_job)):
            place = by_job[job_id]
            self._log.warn(
                "template {account}/{template} of job {job} is deleted and still on its store: quarantined",
                account=place.account_id,
                template=place.template_id,
                job=job_id,
            )
            order = TemplateQuarantine(store, place.account_id, place.template_id, job_id)
            try:
                await self._directory.call(agent.name, storage.TEMPLATE_QUARANTINE, order)
            except RpcError as error:
                if error.code != METHOD_NOT_FOUND:
                    raise

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

# SPDX-License-Identifier: Apache-2.0
"""Dispatches downloads and deletions to SSVMs, driven by state and not by events.

Every pass reads what is pending from the database: downloads that have not ended, and files of deleted
templates. `template.download` is get-or-start by job id, so that a call also returns the status: a later pass
finds whatever was lost with a connection, a restart of either end, or a VM (issues 6647, 11341 of
CloudStack).

A pass starts calls and waits for none, so that an SSVM that hangs does not block the others. A call that
still runs is never repeated, and an SSVM that answers busy or late is not called for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.control.agent_calls import ConnectedAgents
from systemvm.management.state import pending_work, store_refs, templates
from systemvm.management.state.database import Database
from systemvm.management.state.pending_work import DownloadTask, PendingTasks
from systemvm.management.state.templates import StoreRef
from systemvm.management.templates import downloads
from systemvm.management.templates.copy_orders import SourceLinks
from systemvm.management.templates.download_orders import DownloadSettings
from systemvm.management.templates.fair_share import FairShare
from systemvm.management.templates.quota_reservations import QuotaExceededError, QuotaReservations
from systemvm.management.templates.sources import TemplateSources
from systemvm.management.templates.ssvm_calls import Lane, SsvmCalls
from systemvm.management.templates.store_usage import StoreUsage
from systemvm.management.templates.upload_ends import UploadEnds
from systemvm.management.templates.upload_orders import UploadOrders
from systemvm.management.templates.wait_reason import WaitReason, hint_for_zone
from systemvm.rpc.core.call import Call, ObjectAccess
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import MethodTable, Offer
from systemvm.service.periodic import Periodic
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.call_refusal import CallRefusal
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadStatus, QuotaReservation
from systemvm.wire.transfer_failure import TransferFailure
from systemvm.wire.vm_name import VmName

PASS_INTERVAL_S = 10.0
#: The maximum number of rows of a queue that get a wait reason in one pass.
MAX_NOTES = 200


class DownloadDispatcher:
    """Assigns downloads and deletions to SSVMs, and applies the statuses that they report."""

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        database: Database,
        agents: ConnectedAgents,
        zones: DownloadSettings,
        sources: TemplateSources,
        orders: UploadOrders,
        usage: StoreUsage | None = None,
        links: SourceLinks | None = None,
    ) -> None:
        self._database = database
        self._agents = agents
        self._usage = usage or StoreUsage(database, agents, zones)
        self._quota = QuotaReservations(database, zones)
        self._calls = SsvmCalls(
            reactor, database, agents, zones, self._ended, self.wake, sources, orders, self._quota, links
        )
        self._upload_ends = UploadEnds(reactor.seconds, database)
        self._callbacks: list[Callable[[], None]] = []
        self._passes = Periodic(reactor, self._begin, PASS_INTERVAL_S, what="dispatch downloads")

    # -- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._passes.start(now=True)

    def stop(self) -> None:
        self._passes.stop()

    def wake(self) -> None:
        """Run a pass now: there is a new template or a free slot."""
        self._passes.run_soon()

    def agent_up(self, name: str) -> None:
        """Forget the backoff and the statuses of an SSVM that has connected again."""
        self._calls.forget(name)
        self.wake()

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` after the end of each download and deletion."""
        self._callbacks.append(callback)

    def _ended(self, task: DownloadTask) -> None:
        """Run a pass after a download or a deletion: a slot is free, and the store's usage has changed."""
        self._usage.changed(task.store.id)
        self._announce()
        self.wake()

    def _announce(self) -> None:
        for callback in self._callbacks:
            callback()

    # -- a pass ---------------------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """Run passes until every pending task was offered once, and wait for their calls."""
        begun = await self._begin()
        while begun:
            await gatherResults(begun)
            begun = await self._begin() if self._calls.has_leftovers else []

    async def delete(self, template_id: int) -> None:
        """Remove the files of a deleted template now, if an SSVM is up."""
        for task in await self._database.read(pending_work.deletions_of, template_id):
            await self._calls.ended(task)
            found = await self._database.read(pending_work.deletion_with_ssvms, task.ref.id)
            if found is not None:
                requeued, ssvms = found
                share = FairShare(ssvms, set(self._agents.up(Role.SSVM)), self._calls)
                name = share.ssvm_for_deletion(requeued, for_first_time=True)
                if name is not None:
                    await self._calls.run(requeued, name, Lane.DELETE)

    async def order(self, ref_id: int) -> StoreRef:
        """Send the order of an assigned copy to its SSVM now; its row then says whether it was taken."""
        task = await self._database.read(pending_work.task_of, ref_id)
        if task is not None:
            await self._calls.ended(task)  # that of an order from before
            name = task.ref.agent_name or ""
            if self._agents.peer(name) is None:
                await self._note_disconnected(task)
            else:
                await self._calls.run(task, name, Lane.DOWNLOAD)
        return await self._database.read(store_refs.by_id, ref_id)

    async def _begin(self) -> list[Deferred[None]]:
        """Run one pass and return the calls that it started; none of them fails."""
        calls = self._calls
        waits = calls.begin_pass()
        found = await self._database.read(pending_work.get_pending, waits)
        calls.retain_statuses({task.ref.id for task in found.given})
        share = FairShare(found, set(self._agents.up(Role.SSVM)), calls)
        begun = list(self._poll_assigned(found.given, share))
        begun += await self._reassign(found.given, share)
        begun += await self._assign_waiting(found, share, waits)
        for task in found.deletions:
            name = share.ssvm_for_deletion(task)
            if name is not None:
                begun += calls.begin(task, name, Lane.DELETE)
        return begun

    def _poll_assigned(self, given: list[DownloadTask], share: FairShare) -> Iterable[Deferred[None]]:
        """Request the status of assigned downloads whose last status is too old."""
        for task in given:
            name = task.ref.agent_name or ""
            if name in share.up and self._calls.is_due(task, name):
                yield from self._calls.begin(task, name, Lane.DOWNLOAD)

    async def _reassign(self, given: list[DownloadTask], share: FairShare) -> list[Deferred[None]]:
        """Assign downloads of SSVMs that are not Up to another one with a free slot.

        An upload stays: its URL has the address of its SSVM. It ends when that is destroyed or stays away.
        """
        begun: list[Deferred[None]] = []
        away = [task for task in given if (task.ref.agent_name or "") not in share.up]
        self._upload_ends.note_away({task.ref.agent_name or "" for task in away})
        for task in away:
            if task in self._calls:
                continue
            if task.ref.upload_id is not None:
                error = await self._upload_ends.why(task, exists=share.exists(task.ref.agent_name or ""))
                if error is not None:
                    await self._database.run(downloads.fail, task.ref.id, error)
                    self._ended(task)
                    continue
            elif (other := share.slot_for(task)) is not None:
                begun += await self._assign(task, other)
                continue
            await self._note_disconnected(task)
        return begun

    async def _note_disconnected(self, task: DownloadTask) -> None:
        what = "download" if task.ref.upload_id is None else "upload"
        hint = f"Waiting for {task.ref.agent_name} to connect again; the {what} then continues."
        if task.ref.error_hint != hint:
            code = WaitReason.DISCONNECTED.value
            await self._database.run(downloads.note_waiting, [task.ref.id], code, hint)

    async def _assign_waiting(
        self, found: PendingTasks, share: FairShare, waits: list[int]
    ) -> list[Deferred[None]]:
        """Distribute free slots over the accounts, and record why the others wait."""
        begun: list[Deferred[None]] = []
        left = dict(found.waiting)
        free_slots = {zone_id: share.free_slots_in(zone_id) for zone_id in left}
        open_zones = [zone_id for zone_id, count in free_slots.items() if count]
        if open_zones:
            most = max(free_slots.values())
            queue = await self._database.read(pending_work.candidates, open_zones, waits, most)
            for task, name in share.distribute(queue):
                begun += await self._assign(task, name)
                left[task.zone.id] -= 1
        for zone_id, count in left.items():
            if count > 0:
                await self._record_wait_reason(zone_id, found, share)
        return begun

    async def _record_wait_reason(self, zone_id: int, found: PendingTasks, share: FairShare) -> None:
        """Record the wait reason of downloads that were not offered; a rejected one has a reason of its
        own.
        """
        ssvms = share.up_in(zone_id)
        reasons = [self._calls.reason_of(name) for name in ssvms]
        if not ssvms:
            reason = WaitReason.NO_SSVM
        elif all(reasons):
            reason = reasons[0] or WaitReason.BUSY
        elif any(share.free_slots_of(name) for name in ssvms):
            return
        else:
            reason = WaitReason.BUSY
        refs = await self._database.read(
            pending_work.waiting_without_reason, zone_id, reason.value, MAX_NOTES
        )
        if refs:
            hint = hint_for_zone(reason, found.zone_names[zone_id], ssvms)
            # a queue is not a fault, so it makes no events
            is_event = reason is WaitReason.NO_SSVM
            await self._database.run(downloads.note_waiting, refs, reason.value, hint, with_events=is_event)

    async def _assign(self, task: DownloadTask, name: str) -> list[Deferred[None]]:
        if not await self._database.run(downloads.assign, task.ref.id, name, task.ref.agent_name):
            return []  # it has ended or was deleted since it was read
        self.log.info(
            "assigned {template} to {agent}, job {job} (request {request_id})",
            agent=name,
            template=task.template.name,
            job=task.ref.job_id,
            request_id=task.ref.request_id,
        )
        return self._calls.begin(task, name, Lane.DOWNLOAD)

    # -- calls of SSVMs -------------------------------------------------------------------------------------

    def add_methods(self, table: MethodTable) -> None:
        """Add the methods that SSVMs call."""
        own = ObjectAccess("downloads that were given to it", self._is_its_job)
        offers = (
            Offer(
                storage.TEMPLATE_PROGRESS, self._progress, DownloadStatus, Acknowledgement,
                "Report the progress of a download; a newer report replaces it", own,
            ),
            Offer(
                storage.TEMPLATE_FINISHED, self._finished, DownloadStatus, Acknowledgement,
                "Report the end of a download; repeating it has no effect", own,
            ),
            Offer(
                storage.TEMPLATE_RESERVE, self._reserve, QuotaReservation, Acknowledgement,
                "Reserve the size of an image within its account's limit; a later call replaces it", own,
            ),
        )  # fmt: skip
        table.add_all(frozenset({Role.SSVM.value}), offers)

    async def _is_its_job(self, call: Call, status: DownloadStatus | QuotaReservation) -> bool:
        """Allow reports of a job that no longer exists: they change nothing."""
        ref = await self._database.read(templates.store_ref_of_job, status.job_id)
        return ref is None or VmName(ref.agent_name or "") == VmName(call.caller.name)

    async def _progress(self, call: Call, status: DownloadStatus) -> Acknowledgement:
        if not status.state.ended:
            ref = await self._database.run(downloads.apply_status, call.caller.name, status)
            # one that waits for its source must be offered the source's newest link, however often it reports
            if ref is not None and not status.waits_for_source:
                self._calls.note_status(ref.id)
        return Acknowledgement()

    async def _reserve(self, call: Call, reservation: QuotaReservation) -> Acknowledgement:
        try:
            await self._quota.of_job(reservation.job_id, reservation.size_bytes)
        except QuotaExceededError as error:
            raise RpcError.refused(TransferFailure.QUOTA_EXCEEDED, error.message, error.hint) from None
        return Acknowledgement()

    async def _finished(self, call: Call, status: DownloadStatus) -> Acknowledgement:
        if not status.state.ended:
            raise RpcError.refused(
                CallRefusal.NOT_ENDED, f"job {status.job_id} has not ended: {status.state.value}"
            )
        ref = await self._database.run(downloads.apply_status, call.caller.name, status)
        if ref is None:
            # Acknowledged all the same: the agent would repeat a rejected report for ever.
            self.log.info(
                "{agent} finished job {job}, which no longer exists",
                agent=call.caller.name,
                job=status.job_id,
            )
        else:
            self._usage.changed(ref.store_id)
            self._announce()
            self._calls.slot_freed(call.caller.name)
            self.wake()
        return Acknowledgement()

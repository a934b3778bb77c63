# SPDX-License-Identifier: Apache-2.0
"""Keeps SSVMs at work on what users registered: driven by what is the case, not by what has just happened.

Every pass asks the database what is due: downloads that are wanted and have not ended, and files of deleted
templates. `template.download` is get-or-start by job id, so a call is a question as much as an order:
whatever was lost with a connection, a restart of either end, or a VM, a later pass finds (issues 6647, 11341
of CloudStack).

A pass starts calls and waits for none, so that an SSVM that hangs keeps no other from its work. A call that
still runs is never repeated, and an SSVM that answers busy or not in time is left alone for a while.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.state import pending_work, templates
from systemvm.management.state.database import Database
from systemvm.management.state.pending_work import Due, Work
from systemvm.management.templates import downloads
from systemvm.management.templates.fair_share import FairShare
from systemvm.management.templates.ssvm_calls import Agents, Lane, SsvmCalls, ZoneFacts
from systemvm.management.templates.store_usage import StoreUsage
from systemvm.management.templates.wait_reason import WaitReason, hint_for_zone
from systemvm.rpc.core.call import Call, ObjectAccess
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import MethodTable
from systemvm.service.periodic import Periodic
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.role import Role
from systemvm.wire.storage import DownloadStatus
from systemvm.wire.vm_name import VmName

PASS_INTERVAL_S = 10.0
#: How many rows of a queue are told in one pass why they wait.
MAX_NOTES = 200


class DownloadDispatcher:
    """Gives downloads and deletions to SSVMs and takes their word on them."""

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        database: Database,
        agents: Agents,
        zones: ZoneFacts,
        usage: StoreUsage | None = None,
    ) -> None:
        self._database = database
        self._agents = agents
        self._usage = usage or StoreUsage(database, agents, zones)
        self._calls = SsvmCalls(reactor, database, agents, zones, self._ended, self.wake)
        self._passes = Periodic(reactor, self._begin, PASS_INTERVAL_S, what="a pass over downloads")

    # -- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._passes.start(now=True)

    def stop(self) -> None:
        self._passes.stop()

    def wake(self) -> None:
        """Do a pass now: a template came, or a place is free."""
        self._passes.run_soon()

    def agent_up(self, name: str) -> None:
        """An SSVM connected: what was wrong with it is over, and what it said before may be out of date."""
        self._calls.forget(name)
        self.wake()

    def _ended(self, work: Work) -> None:
        """A download or a deletion is done with: a place is free, and its store is fuller or emptier."""
        self._usage.changed(work.store.id)
        self.wake()

    # -- a pass ---------------------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """Passes until everything that is due was offered once, and all calls of them have ended."""
        begun = await self._begin()
        while begun:
            await gatherResults(begun)
            begun = await self._begin() if self._calls.left_out else []

    async def delete(self, template_id: int) -> None:
        """Have the files of a deleted template removed now, as far as an SSVM is there to do it."""
        for work in await self._database.read(pending_work.deletions_of, template_id):
            await self._calls.ended(work)
            found = await self._database.read(pending_work.deletion_with_ssvms, work.ref.id)
            if found is not None:
                again, ssvms = found
                allotment = FairShare(ssvms, set(self._agents.up(Role.SSVM)), self._calls)
                name = allotment.for_deletion(again, for_first_time=True)
                if name is not None:
                    await self._calls.run(again, name, Lane.DELETE)

    async def _begin(self) -> list[Deferred[None]]:
        """One pass: the calls that it began; each ends by itself, and none fails."""
        calls = self._calls
        waits = calls.begin_pass()
        found = await self._database.read(pending_work.due, waits)
        calls.retain_statuses({work.ref.id for work in found.given})
        allotment = FairShare(found, set(self._agents.up(Role.SSVM)), calls)
        begun = list(self._ask_again(found.given, allotment))
        begun += await self._reassign(found.given, allotment)
        begun += await self._give(found, allotment, waits)
        for work in found.deletions:
            name = allotment.for_deletion(work)
            if name is not None:
                begun += calls.begin(work, name, Lane.DELETE)
        return begun

    def _ask_again(self, given: list[Work], allotment: FairShare) -> Iterable[Deferred[None]]:
        """How downloads are that SSVMs have, if nothing was heard of them lately."""
        for work in given:
            name = work.ref.agent_name or ""
            if name in allotment.up and self._calls.is_due(work, name):
                yield from self._calls.begin(work, name, Lane.DOWNLOAD)

    async def _reassign(self, given: list[Work], allotment: FairShare) -> list[Deferred[None]]:
        """Downloads of SSVMs that are not Up go to another one, if there is one with a place."""
        begun: list[Deferred[None]] = []
        for work in given:
            name = work.ref.agent_name or ""
            if name in allotment.up or work in self._calls:
                continue
            other = allotment.place_for(work)
            if other is not None:
                begun += await self._assign(work, other)
                continue
            hint = f"Waiting for {name} to connect again; the download then goes on."
            if work.ref.error_hint != hint:
                code = WaitReason.DISCONNECTED.value
                await self._database.run(downloads.note_waiting, [work.ref.id], code, hint)
        return begun

    async def _give(self, found: Due, allotment: FairShare, waits: list[int]) -> list[Deferred[None]]:
        """Free places go round the accounts; who gets none is told why."""
        begun: list[Deferred[None]] = []
        left = dict(found.waiting)
        places = {zone_id: allotment.places_in(zone_id) for zone_id in left}
        open_zones = [zone_id for zone_id, count in places.items() if count]
        if open_zones:
            most = max(places.values())
            queue = await self._database.read(pending_work.candidates, open_zones, waits, most)
            for work, name in allotment.share_out(queue):
                begun += await self._assign(work, name)
                left[work.zone.id] -= 1
        for zone_id, count in left.items():
            if count > 0:
                await self._note_why(zone_id, found, allotment)
        return begun

    async def _note_why(self, zone_id: int, found: Due, allotment: FairShare) -> None:
        """Write down why those wait that were offered to nobody; who was refused has a reason of its own."""
        ssvms = allotment.up_in(zone_id)
        reasons = [self._calls.reason_of(name) for name in ssvms]
        if not ssvms:
            reason = WaitReason.NO_SSVM
        elif all(reasons):
            reason = reasons[0] or WaitReason.BUSY
        elif any(allotment.places_of(name) for name in ssvms):
            return
        else:
            reason = WaitReason.BUSY
        refs = await self._database.read(
            pending_work.waiting_without_reason, zone_id, reason.value, MAX_NOTES
        )
        if refs:
            hint = hint_for_zone(reason, found.zone_names[zone_id], ssvms)
            # an event for each is for what is wrong; that others have their turn before is not
            is_event = reason is WaitReason.NO_SSVM
            await self._database.run(downloads.note_waiting, refs, reason.value, hint, with_events=is_event)

    async def _assign(self, work: Work, name: str) -> list[Deferred[None]]:
        if not await self._database.run(downloads.assign, work.ref.id, name, work.ref.agent_name):
            return []  # it ended, or was deleted, since it was read
        self.log.info(
            "{agent} is given {template}, job {job} (request {request_id})",
            agent=name,
            template=work.template.name,
            job=work.ref.job_id,
            request_id=work.ref.request_id,
        )
        return self._calls.begin(work, name, Lane.DOWNLOAD)

    # -- what SSVMs say -------------------------------------------------------------------------------------

    def add_methods(self, table: MethodTable) -> None:
        """The methods that SSVMs call."""
        ssvms = frozenset({Role.SSVM.value})
        own = ObjectAccess("downloads that were given to it", self._is_its_job)
        table.add(
            storage.TEMPLATE_PROGRESS,
            self._progress,
            params=DownloadStatus,
            result=Acknowledgement,
            roles=ssvms,
            summary="How far a download is; a newer one replaces it",
            objects=own,
        )
        table.add(
            storage.TEMPLATE_FINISHED,
            self._finished,
            params=DownloadStatus,
            result=Acknowledgement,
            roles=ssvms,
            summary="The end of a download; may be said again",
            objects=own,
        )

    async def _is_its_job(self, call: Call, status: DownloadStatus) -> bool:
        """A job that there is no more is nobody's: its end may be said, and changes nothing."""
        ref = await self._database.read(templates.store_ref_of_job, status.job_id)
        return ref is None or VmName(ref.agent_name or "") == VmName(call.caller.name)

    async def _progress(self, call: Call, status: DownloadStatus) -> Acknowledgement:
        if not status.state.ended:
            ref = await self._database.run(downloads.apply_status, call.caller.name, status)
            if ref is not None:
                self._calls.note_status(ref.id)
        return Acknowledgement()

    async def _finished(self, call: Call, status: DownloadStatus) -> Acknowledgement:
        if not status.state.ended:
            raise RpcError.refused("not_ended", f"job {status.job_id} has not ended: {status.state.value}")
        ref = await self._database.run(downloads.apply_status, call.caller.name, status)
        if ref is None:
            # Acknowledged all the same: refusing would make the agent say it for ever.
            self.log.info(
                "{agent} finished job {job}, which there is no more",
                agent=call.caller.name,
                job=status.job_id,
            )
        else:
            self._usage.changed(ref.store_id)
            self._calls.slot_freed(call.caller.name)
            self.wake()
        return Acknowledgement()

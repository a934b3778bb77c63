# SPDX-License-Identifier: Apache-2.0
"""Keeps SSVMs at work on what users registered: driven by what is the case, not by what has just happened.

Every pass looks at all downloads that are wanted and have not ended, and gives each to an SSVM that is Up.
`template.download` is get-or-start by job id, so a pass is a question as much as an order: whatever was lost
with a connection, a restart of either end, or a VM, the next pass finds (issues 6647, 11341 of CloudStack).
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from systemvm.management.state import templates
from systemvm.management.state.columns import new_uuid
from systemvm.management.state.database import Database
from systemvm.management.templates import downloads
from systemvm.management.templates.downloads import TRANSIENT_CODES, Work
from systemvm.rpc.call import Call, Objects
from systemvm.rpc.errors import REFUSED, RpcError
from systemvm.rpc.method import MethodTable
from systemvm.wire import storage
from systemvm.wire.role import Role
from systemvm.wire.storage import (
    Done,
    DownloadAbort,
    DownloadError,
    DownloadRequest,
    DownloadStatus,
    Store,
    TemplateDelete,
)

SCAN_INTERVAL_S = 10.0
CALL_DEADLINE_S = 30.0
DELETE_DEADLINE_S = 120.0


class AgentPeer(Protocol):
    """A connected agent."""

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        result: Any = None,
        deadline_s: float = 30.0,
        request_id: str | None = None,
    ) -> Any: ...


class Agents(Protocol):
    """Who is connected."""

    def peer(self, name: str) -> AgentPeer | None: ...
    def up(self, role: Role) -> list[str]: ...


class ZoneFacts(Protocol):
    """What a zone's configuration says of downloads, read at the time of asking."""

    def source_ca_pem(self, zone_name: str) -> str | None: ...
    def max_template_size_bytes(self, zone_name: str) -> int: ...
    def store(self, zone_name: str, store_name: str) -> Store: ...


class Dispatch:
    """Gives downloads and deletions to SSVMs and takes their word on them."""

    log = Logger()

    def __init__(self, reactor: IReactorTime, database: Database, agents: Agents, zones: ZoneFacts) -> None:
        self._database = database
        self._agents = agents
        self._zones = zones
        self._loop = LoopingCall(self._scan)
        self._loop.clock = reactor
        self._locks: dict[int, DeferredLock] = {}

    # -- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._loop.start(SCAN_INTERVAL_S, now=True)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def wake(self) -> None:
        """Do a pass now: a template came, or an SSVM."""
        if self._loop.running:
            self._loop.reset()
            self._scan()

    def _scan(self) -> Deferred[None]:
        scan = Deferred.fromCoroutine(self.reconcile())
        # A scan that failed must not end the loop: the next one sees the same work.
        return scan.addErrback(
            lambda failure: self.log.failure("a pass over downloads failed", failure=failure)
        )

    # -- a pass ---------------------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """One pass: every download and deletion that is due is offered to an SSVM."""
        load = await self._database.read(downloads.load_of)
        for work in await self._database.read(downloads.to_do):
            lock = self._lock(work.ref.id)
            if not lock.locked:  # else another pass is talking about it right now
                await lock.run(self._download, work, load)
        await self.clear_deleted()

    async def clear_deleted(self) -> None:
        """Remove the files of templates that were deleted, as far as an SSVM is there to do it."""
        for work in await self._database.read(downloads.to_delete):
            await self._lock(work.ref.id).run(self._delete, work)

    def _lock(self, ref_id: int) -> DeferredLock:
        """One talk at a time about one copy on a store."""
        return self._locks.setdefault(ref_id, DeferredLock())

    async def _download(self, listed: Work, load: dict[str, int]) -> None:
        # Looked at anew: while this pass waited for another download, this one may have come to its end, and
        # an SSVM that has forgotten an ended job would start it again.
        work = await self._database.read(downloads.still_to_do, listed.ref.id)
        if work is None:
            return
        chosen = await self._choose(work, load)
        if chosen is None:
            await self._database.run(downloads.note_waiting, work.ref.id, self._why_waiting(work))
            return
        name, peer = chosen
        if work.ref.agent_name != name:
            await self._database.run(downloads.assign, work.ref.id, name)
            load[name] = load.get(name, 0) + 1
        request = self._request(work)
        if work.ref.agent_name != name:
            self.log.info(
                "{agent} is given {template}, job {job} (request {request_id})",
                agent=name,
                template=work.template.name,
                job=request.job_id,
                request_id=request.request_id,
            )
        try:
            status = await peer.call(
                storage.TEMPLATE_DOWNLOAD,
                request,
                result=DownloadStatus,
                deadline_s=CALL_DEADLINE_S,
                request_id=request.request_id,
            )
        except RpcError as error:
            await self._refused(work, name, error)
            return
        await self._database.run(downloads.apply_status, name, status)

    async def _choose(self, work: Work, load: dict[str, int]) -> tuple[str, AgentPeer] | None:
        """The SSVM that has it already, else the one with the least to do."""
        up = set(self._agents.up(Role.SSVM))
        names = sorted(
            (name for name in await self._database.read(downloads.ssvms_of, work.zone.id) if name in up),
            key=lambda name: (name != work.ref.agent_name, load.get(name, 0), name),
        )
        for name in names:
            peer = self._agents.peer(name)
            if peer is not None:
                return name, peer
        return None

    @staticmethod
    def _why_waiting(work: Work) -> str:
        if work.ref.agent_name:
            return f"Waiting for {work.ref.agent_name} to connect again; the download then goes on."
        return f"Waiting for a secondary storage VM of zone {work.zone.name} to come Up."

    def _request(self, work: Work) -> DownloadRequest:
        template, zone = work.template, work.zone
        return DownloadRequest(
            job_id=work.ref.job_id,
            request_id=work.ref.request_id or new_uuid(),
            template_id=template.id,
            account_id=template.account_id,
            unique_name=template.unique_name,
            description=template.display_text,
            url=template.url or "",
            format=template.format,
            store=self._zones.store(zone.name, work.store.name),
            max_size_bytes=self._zones.max_template_size_bytes(zone.name),
            checksum=template.checksum,
            source_ca_pem=self._zones.source_ca_pem(zone.name),
            public=template.public,
            hvm=template.hvm,
        )

    async def _refused(self, work: Work, name: str, error: RpcError) -> None:
        self.log.info(
            "{agent} does not take {template}: {error}", agent=name, template=work.template.name, error=error
        )
        if error.code == REFUSED and error.reason not in TRANSIENT_CODES:
            final = DownloadError(error.reason or "refused", error.message, error.hint)
            await self._database.run(downloads.fail, work.ref.id, final)
            return
        hint = f"{name}: {error.message}" + (f" ({error.hint})" if error.hint else "")
        await self._database.run(downloads.note_waiting, work.ref.id, hint)

    async def _delete(self, work: Work) -> None:
        """Stop its download and remove its files; tried again with every pass until an SSVM says it is so."""
        due = await self._database.read(downloads.to_delete)
        chosen = await self._choose(work, {}) if work.ref.id in {one.ref.id for one in due} else None
        if chosen is None:
            return
        name, peer = chosen
        try:
            await peer.call(
                storage.TEMPLATE_ABORT, DownloadAbort(work.ref.job_id), deadline_s=CALL_DEADLINE_S
            )
        except RpcError as error:
            self.log.debug("{agent} had nothing to abort: {error}", agent=name, error=error)
        order = TemplateDelete(
            job_id=work.ref.job_id,
            store=self._zones.store(work.zone.name, work.store.name),
            account_id=work.template.account_id,
            template_id=work.template.id,
        )
        try:
            await peer.call(storage.TEMPLATE_DELETE, order, result=Done, deadline_s=DELETE_DEADLINE_S)
        except RpcError as error:
            self.log.info(
                "{agent} could not delete {template}: {error}",
                agent=name,
                template=work.template.name,
                error=error,
            )
            return
        await self._database.run(downloads.forget_files, work.ref.id)
        self._locks.pop(work.ref.id, None)

    # -- what SSVMs say -------------------------------------------------------------------------------------

    def add_methods(self, table: MethodTable) -> None:
        """The methods that SSVMs call."""
        ssvms = frozenset({Role.SSVM.value})
        own = Objects("downloads that were given to it", self._is_its_job)
        table.add(
            storage.TEMPLATE_PROGRESS,
            self._progress,
            params=DownloadStatus,
            result=Done,
            roles=ssvms,
            summary="How far a download is; a newer one replaces it",
            objects=own,
        )
        table.add(
            storage.TEMPLATE_FINISHED,
            self._finished,
            params=DownloadStatus,
            result=Done,
            roles=ssvms,
            summary="The end of a download; may be said again",
            objects=own,
        )

    async def _is_its_job(self, call: Call, status: DownloadStatus) -> bool:
        """A job that there is no more is nobody's: its end may be said, and changes nothing."""
        ref = await self._database.read(templates.store_ref_of_job, status.job_id)
        return ref is None or (ref.agent_name or "").lower() == call.caller.name.lower()

    async def _progress(self, call: Call, status: DownloadStatus) -> Done:
        if not status.state.ended:
            await self._database.run(downloads.apply_status, call.caller.name, status)
        return Done()

    async def _finished(self, call: Call, status: DownloadStatus) -> Done:
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
        return Done()

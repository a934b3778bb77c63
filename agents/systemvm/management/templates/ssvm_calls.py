# SPDX-License-Identifier: Apache-2.0
"""The calls that SSVMs get about copies on stores: one at a time for each copy, a few for each SSVM."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.state.columns import new_uuid
from systemvm.management.state.database import Database
from systemvm.management.state.pending_work import Work
from systemvm.management.templates import downloads
from systemvm.management.templates.wait_reason import WaitReason, hint_for_refusal
from systemvm.rpc.core.errors import RpcError
from systemvm.service.backoff import KeyedBackoff
from systemvm.service.single_flight import SingleFlight
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.role import Role
from systemvm.wire.storage import (
    DownloadAbort,
    DownloadError,
    DownloadRequest,
    DownloadStatus,
    Store,
    TemplateDelete,
)

CALL_DEADLINE_S = 30.0
DELETE_DEADLINE_S = 120.0
#: How long an SSVM's word on a download is believed before it is asked again; progress is its word too.
BELIEVED_S = 30.0
#: An SSVM that is busy or slow, a store it cannot use, a copy that it does not take: asked again after 5 to
#: 10 s at first, after at most two minutes in the end.
RETRY_FIRST_S, RETRY_LAST_S, RETRY_JITTER = 10.0, 120.0, 0.5


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
    def own_networks(self) -> list[str]: ...


class Lane(enum.Enum):
    """Kinds of calls; files that take long to remove leave downloads their way."""

    DOWNLOAD = "download"
    DELETE = "delete"

    @property
    def max_calls(self) -> int:
        """How many an SSVM gets at a time."""
        return 4 if self is Lane.DOWNLOAD else 2


class SsvmCalls:
    """What is being said to SSVMs, and when each may be asked again.

    `on_end(work)` hears of every download that ended and of every file that is gone, `on_free()` of the end
    of a call while others wait for theirs.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        agents: Agents,
        zones: ZoneFacts,
        on_end: Callable[[Work], None],
        on_free: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._database = database
        self._agents = agents
        self._zones = zones
        self._on_end = on_end
        self._on_free = on_free
        self._running = SingleFlight[int]()  # by the copy's number
        self._lanes: dict[tuple[str, Lane], DeferredSemaphore] = {}
        #: By an SSVM's name, by its name and a store's number, or by a copy's number.
        self._backoff = KeyedBackoff[str | tuple[str, int] | int](
            clock.seconds, first_s=RETRY_FIRST_S, last_s=RETRY_LAST_S, jitter=RETRY_JITTER
        )
        self._reasons: dict[str, WaitReason] = {}  # why SSVMs are left alone
        self._believed_until_s: dict[int, float] = {}
        self.left_out = False  # whether this pass offered more than the lanes take

    def __contains__(self, work: Work) -> bool:
        return work.ref.id in self._running

    # -- whom to ask now ------------------------------------------------------------------------------------

    def begin_pass(self) -> list[int]:
        """The copies that are not to be asked about in this pass."""
        self.left_out = False
        self._backoff.forget_old()
        return [key for key in self._backoff.waiting() if isinstance(key, int)]

    def retain_statuses(self, ref_ids: set[int]) -> None:
        """Forget what was believed of all others: they have ended."""
        for ended in self._believed_until_s.keys() - ref_ids:
            del self._believed_until_s[ended]

    def note_status(self, ref_id: int) -> None:
        """An SSVM said how this download is."""
        self._believed_until_s[ref_id] = self._clock.seconds() + BELIEVED_S

    def is_due(self, work: Work, name: str) -> bool:
        return (
            self._believed_until_s.get(work.ref.id, 0.0) <= self._clock.seconds()
            and self.can_use(name, work.store.id)
            and not self._backoff.due_in_s(work.ref.id)
        )

    def can_call(self, name: str) -> bool:
        return not self._backoff.due_in_s(name)

    def can_use(self, name: str, store_id: int) -> bool:
        return self.can_call(name) and not self._backoff.due_in_s((name, store_id))

    def reason_of(self, name: str) -> WaitReason | None:
        """Why this SSVM is left alone; None when it may be asked."""
        return self._reasons.get(name, WaitReason.BUSY) if self._backoff.due_in_s(name) else None

    def slot_freed(self, name: str) -> None:
        """A download of this SSVM has ended: if it was busy, it may have room now."""
        if self._reasons.get(name) is WaitReason.BUSY:
            self._backoff.succeeded(name)
            self._reasons.pop(name, None)

    def forget(self, name: str) -> None:
        """An SSVM is there anew: it may be asked about everything."""
        self._backoff.forget(lambda key: key != name and not (isinstance(key, tuple) and key[0] == name))
        self._reasons.pop(name, None)
        self._believed_until_s.clear()

    # -- calls ----------------------------------------------------------------------------------------------

    def begin(self, work: Work, name: str, lane: Lane) -> list[Deferred[None]]:
        """Begin a call unless there is one about this copy, or the SSVM has enough; its end, or nothing."""
        if work in self:
            return []
        if not self._lane(name, lane).tokens:
            self.left_out = True
            return []
        return [Deferred.fromCoroutine(self.run(work, name, lane))]

    async def run(self, work: Work, name: str, lane: Lane) -> None:
        """Call when the lane is free, or join the call about this copy that runs; never raises."""
        talk = self._download if lane is Lane.DOWNLOAD else self._delete

        async def when_free() -> None:
            await self._lane(name, lane).run(lambda: Deferred.fromCoroutine(talk(work, name)))

        try:
            await self._running.run(work.ref.id, when_free)
        except Exception:
            self._backoff.failed(work.ref.id)
            self._log.failure("{lane} of {template} failed", lane=lane.value, template=work.template.name)
        if self.left_out:
            self._on_free()

    async def ended(self, work: Work) -> None:
        """Wait for the end of what is being said about this copy."""
        await self._running.wait_until_ended(work.ref.id)

    def _lane(self, name: str, lane: Lane) -> DeferredSemaphore:
        return self._lanes.setdefault((name, lane), DeferredSemaphore(lane.max_calls))

    async def _download(self, work: Work, name: str) -> None:
        peer = self._agents.peer(name)
        if peer is None:
            return
        request = self._request(work)
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
        self._answered(work, name, is_store_well=not status.waits_for_store)
        self.note_status(work.ref.id)
        await self._database.run(downloads.apply_status, name, status)
        if status.state.ended:
            self._on_end(work)

    async def _refused(self, work: Work, name: str, error: RpcError) -> None:
        self._log.info(
            "{agent} does not take {template}: {error}", agent=name, template=work.template.name, error=error
        )
        reason = WaitReason.of(error)
        if reason is None:
            self._answered(work, name)
            final = DownloadError(error.reason or "refused", error.message, error.hint)
            await self._database.run(downloads.fail, work.ref.id, final)
            self._on_end(work)
            return
        self._back_off(work, name, reason)
        hint = hint_for_refusal(name, error)
        await self._database.run(downloads.note_waiting, [work.ref.id], reason.value, hint)
        if reason.was_not_taken:
            await self._database.run(downloads.take_back, work.ref.id, name)

    async def _delete(self, work: Work, name: str) -> None:
        """Stop its download and remove its files; tried again later until an SSVM says that they are gone."""
        peer = self._agents.peer(name)
        if peer is None:
            return
        order = TemplateDelete(
            job_id=work.ref.job_id,
            store=self._zones.store(work.zone.name, work.store.name),
            account_id=work.template.account_id,
            template_id=work.template.id,
        )
        try:
            if not work.ref.state.ended:
                await self._abort(peer, work, name)
            await peer.call(
                storage.TEMPLATE_DELETE, order, result=Acknowledgement, deadline_s=DELETE_DEADLINE_S
            )
        except RpcError as error:
            self._log.info(
                "{agent} could not delete {template}: {error}",
                agent=name,
                template=work.template.name,
                error=error,
            )
            self._back_off(work, name, WaitReason.of(error))
            return
        self._answered(work, name)
        await self._database.run(downloads.forget_files, work.ref.id)
        self._on_end(work)

    async def _abort(self, peer: AgentPeer, work: Work, name: str) -> None:
        try:
            await peer.call(
                storage.TEMPLATE_ABORT, DownloadAbort(work.ref.job_id), deadline_s=CALL_DEADLINE_S
            )
        except RpcError as error:
            self._log.debug("{agent} had nothing to abort: {error}", agent=name, error=error)

    def _back_off(self, work: Work, name: str, reason: WaitReason | None) -> None:
        if reason is not None and reason.is_of_ssvm:
            self._reasons[name] = reason
            self._backoff.failed(name)
        elif reason is not None and reason.is_of_store:
            self._backoff.failed((name, work.store.id))
        else:
            self._backoff.failed(work.ref.id)

    def _answered(self, work: Work, name: str, *, is_store_well: bool = True) -> None:
        self._backoff.succeeded(name)
        self._backoff.succeeded(work.ref.id)
        if is_store_well:
            self._backoff.succeeded((name, work.store.id))
        self._reasons.pop(name, None)

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
            denied_networks=self._zones.own_networks(),
        )

# SPDX-License-Identifier: Apache-2.0
"""Calls to SSVMs about copies on stores: one at a time for each copy, a few for each SSVM."""

from __future__ import annotations

import enum
from collections.abc import Callable

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from systemvm.management.control.agent_calls import AgentPeer, ConnectedAgents
from systemvm.management.state import snapshot_images, templates
from systemvm.management.state.copy_sources import choose_source, choose_twin
from systemvm.management.state.database import Database
from systemvm.management.state.pending_work import DownloadTask
from systemvm.management.templates import downloads
from systemvm.management.templates.copy_orders import (
    MAX_COPY_FAILURES,
    NoSourceLinks,
    SourceLinks,
    SourceUnavailableError,
    can_be_copied,
    copy_request,
    is_between_zones,
    linked_request,
    snapshot_request,
)
from systemvm.management.templates.download_orders import DownloadOrders, DownloadSettings
from systemvm.management.templates.quota_reservations import QuotaExceededError, QuotaReservations
from systemvm.management.templates.sources import TemplateSources
from systemvm.management.templates.upload_orders import UploadOrders
from systemvm.management.templates.wait_reason import WaitReason, hint_for_refusal
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.service.backoff import KeyedBackoff
from systemvm.service.single_flight import SingleFlight
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import (
    CopyRequest,
    DownloadAbort,
    DownloadError,
    DownloadRequest,
    DownloadState,
    DownloadStatus,
    TemplateDelete,
)
from systemvm.wire.transfer_failure import TransferFailure
from systemvm.wire.upload import TEMPLATE_UPLOAD, UploadRequest

CALL_DEADLINE_S = 30.0
DELETE_DEADLINE_S = 120.0
#: How long a reported status is valid before it is requested again.
STATUS_VALID_S = 30.0
#: The backoff of a busy SSVM, an unusable store or a rejected copy: 5 to 10 s at first, 2 min at most.
RETRY_FIRST_S, RETRY_LAST_S, RETRY_JITTER = 10.0, 120.0, 0.5


_NO_SOURCE = DownloadError(
    TransferFailure.SOURCE_MISSING.value,
    "The template has no URL, and no other store has it any more.",
    "Upload or register it again under a new name.",
)


class Lane(enum.Enum):
    """Kinds of calls, each with slots of its own: slow deletions do not block downloads."""

    DOWNLOAD = "download"
    DELETE = "delete"

    @property
    def max_calls(self) -> int:
        """The maximum number of concurrent calls to one SSVM."""
        return 4 if self is Lane.DOWNLOAD else 2


class SsvmCalls:
    """The calls in progress, and the backoff of each SSVM, store and copy.

    `on_end(task)` is called at the end of every download and deletion, `on_slot_free()` at the end of a call
    while other tasks wait for a slot.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        database: Database,
        agents: ConnectedAgents,
        zones: DownloadSettings,
        on_end: Callable[[DownloadTask], None],
        on_slot_free: Callable[[], None],
        sources: TemplateSources,
        uploads: UploadOrders,
        quota: QuotaReservations,
        links: SourceLinks | None = None,
    ) -> None:
        self._clock = clock
        self._database = database
        self._agents = agents
        self._links = links or NoSourceLinks()
        self._on_end = on_end
        self._on_slot_free = on_slot_free
        self._downloads = DownloadOrders(zones, sources)
        self._uploads = uploads
        self._quota = quota
        self._running = SingleFlight[int]()  # by the copy's id
        self._lanes: dict[tuple[str, Lane], DeferredSemaphore] = {}
        #: By an SSVM's name, by its name and a store's id, or by a copy's id.
        self._backoff = KeyedBackoff[str | tuple[str, int] | int](
            clock.seconds, first_s=RETRY_FIRST_S, last_s=RETRY_LAST_S, jitter=RETRY_JITTER
        )
        self._reasons: dict[str, WaitReason] = {}  # of the backoff of SSVMs
        self._status_valid_until_s: dict[int, float] = {}
        self.has_leftovers = False  # whether this pass offered more than there are slots

    def __contains__(self, task: DownloadTask) -> bool:
        return task.ref.id in self._running

    # -- backoff --------------------------------------------------------------------------------------------

    def begin_pass(self) -> list[int]:
        """Return the ids of copies that are in backoff during this pass."""
        self.has_leftovers = False
        self._backoff.forget_old()
        return [key for key in self._backoff.waiting() if isinstance(key, int)]

    def retain_statuses(self, ref_ids: set[int]) -> None:
        """Drop the statuses of all other copies: their downloads have ended."""
        for ended in self._status_valid_until_s.keys() - ref_ids:
            del self._status_valid_until_s[ended]

    def note_status(self, ref_id: int) -> None:
        """Note that an SSVM has just reported this download."""
        self._status_valid_until_s[ref_id] = self._clock.seconds() + STATUS_VALID_S

    def is_due(self, task: DownloadTask, name: str) -> bool:
        return (
            self._status_valid_until_s.get(task.ref.id, 0.0) <= self._clock.seconds()
            and self.can_use(name, task.store.id)
            and not self._backoff.due_in_s(task.ref.id)
        )

    def can_call(self, name: str) -> bool:
        return not self._backoff.due_in_s(name)

    def can_use(self, name: str, store_id: int) -> bool:
        return self.can_call(name) and not self._backoff.due_in_s((name, store_id))

    def reason_of(self, name: str) -> WaitReason | None:
        """Return why this SSVM is in backoff, or None."""
        return self._reasons.get(name, WaitReason.BUSY) if self._backoff.due_in_s(name) else None

    def slot_freed(self, name: str) -> None:
        """End the backoff of a busy SSVM, one of whose downloads has ended."""
        if self._reasons.get(name) is WaitReason.BUSY:
            self._backoff.succeeded(name)
            self._reasons.pop(name, None)

    def forget(self, name: str) -> None:
        """Forget the backoff and the statuses of an SSVM that has connected again."""
        self._backoff.forget(lambda key: key != name and not (isinstance(key, tuple) and key[0] == name))
        self._reasons.pop(name, None)
        self._status_valid_until_s.clear()

    # -- calls ----------------------------------------------------------------------------------------------

    def begin(self, task: DownloadTask, name: str, lane: Lane) -> list[Deferred[None]]:
        """Start a call unless one runs for this copy or the SSVM has no slot; return its end, or nothing."""
        if task in self:
            return []
        if not self._lane(name, lane).tokens:
            self.has_leftovers = True
            return []
        return [Deferred.fromCoroutine(self.run(task, name, lane))]

    async def run(self, task: DownloadTask, name: str, lane: Lane) -> None:
        """Call when a slot is free, or join the call that runs for this copy; never raises."""
        call_ssvm = self._download if lane is Lane.DOWNLOAD else self._delete

        async def when_free() -> None:
            await self._lane(name, lane).run(lambda: Deferred.fromCoroutine(call_ssvm(task, name)))

        try:
            await self._running.run(task.ref.id, when_free)
        except Exception:
            self._backoff.failed(task.ref.id)
            self._log.failure("{lane} of {template} failed", lane=lane.value, template=task.template.name)
        if self.has_leftovers:
            self._on_slot_free()

    async def ended(self, task: DownloadTask) -> None:
        """Wait for the end of the call that runs for this copy."""
        await self._running.wait_until_ended(task.ref.id)

    def _lane(self, name: str, lane: Lane) -> DeferredSemaphore:
        return self._lanes.setdefault((name, lane), DeferredSemaphore(lane.max_calls))

    async def _download(self, task: DownloadTask, name: str) -> None:
        peer = self._agents.peer(name)
        if peer is None:
            return
        try:
            method, request = await self._order(task)
        except SourceUnavailableError as waits:
            await self._wait_for_source(task, name, waits)
            return
        except QuotaExceededError as error:
            quota = TransferFailure.QUOTA_EXCEEDED.value
            await self._fail(task, DownloadError(quota, error.message, error.hint))
            return
        if isinstance(request, DownloadRequest) and not request.url:
            if task.ref.state is DownloadState.DOWNLOAD_IN_PROGRESS:
                await self._abort(peer, task, name)  # it would wait for its source
            await self._fail(task, _NO_SOURCE)
            return
        try:
            status = await self._start(peer, method, request)
        except RpcError as error:
            if error.code == METHOD_NOT_FOUND and isinstance(request, CopyRequest) and request.source_chain:
                await self._fail(task, _no_snapshots(name))
            elif error.code == METHOD_NOT_FOUND and method == storage.TEMPLATE_COPY:
                await self._database.run(downloads.give_up_copying, task.ref.id, MAX_COPY_FAILURES)
                self._on_slot_free()  # an older agent: it downloads by the URL in the next pass
            elif error.code == METHOD_NOT_FOUND and method == TEMPLATE_UPLOAD:
                await self._fail(task, _no_uploads(name))
            else:
                await self._rejected(task, name, error)
            return
        self._succeeded(task, name, is_store_usable=not status.waits_for_store)
        self.note_status(task.ref.id)
        await self._database.run(downloads.apply_status, name, status)
        if status.state.ended:
            self._on_end(task)

    async def _start(
        self, peer: AgentPeer, method: str, request: CopyRequest | DownloadRequest | UploadRequest
    ) -> DownloadStatus:
        status: DownloadStatus = await peer.call(
            method,
            request,
            result=DownloadStatus,
            deadline_s=CALL_DEADLINE_S,
            request_id=request.request_id,
        )
        return status

    async def _order(self, task: DownloadTask) -> tuple[str, CopyRequest | DownloadRequest | UploadRequest]:
        """Return the call that gets the template onto its store; the row names the source of a copy first.

        Raises: SourceUnavailableError when no SSVM serves the source of a copy between zones,
        QuotaExceededError when the account of a copy has no room for it.
        """
        if task.ref.upload_id is not None:
            return TEMPLATE_UPLOAD, await self._database.read(self._uploads.request, task)
        source = None
        if can_be_copied(task):
            source = await self._database.read(choose_source, task.ref)
        has_failed = task.ref.copy_failures >= MAX_COPY_FAILURES
        if source is None and can_be_copied(task) and not has_failed:
            source = await self._database.read(choose_twin, task.ref, task.template)
        if has_failed and task.template.url:
            source = None
        source_id = source.ref.id if source else None
        if source_id != task.ref.source_ref_id:
            await self._database.run(downloads.note_source, task.ref.id, source_id)
        if source is None and not task.template.url:
            made_from = await self._database.read(snapshot_images.source_of, task.template.id)
            if made_from is not None and made_from.store.zone_id == task.zone.id:
                await self._quota.of_copy(task, made_from.stored_bytes)
                return storage.TEMPLATE_COPY, snapshot_request(task, made_from)
        request = await self._database.read(self._downloads.request, task)
        if source is None:
            return storage.TEMPLATE_DOWNLOAD, request
        link = await self._links.link(task, source) if is_between_zones(task, source) else None
        if link is None:
            await self._quota.of_copy(task, source.ref.physical_size_bytes or 0)
            return storage.TEMPLATE_COPY, copy_request(task, source)
        return storage.TEMPLATE_DOWNLOAD, linked_request(request, source, link)

    async def _wait_for_source(self, task: DownloadTask, name: str, why: SourceUnavailableError) -> None:
        """Record why a copy waits; one that has not begun leaves its slot to others."""
        self._backoff.failed(task.ref.id)
        await self._database.run(
            downloads.note_waiting, [task.ref.id], WaitReason.NO_SOURCE.value, why.message
        )
        if task.ref.state is DownloadState.NOT_DOWNLOADED:
            await self._database.run(downloads.unassign, task.ref.id, name)

    async def _rejected(self, task: DownloadTask, name: str, error: RpcError) -> None:
        self._log.info(
            "{agent} rejected {template}: {error}", agent=name, template=task.template.name, error=error
        )
        reason = WaitReason.of(error)
        if reason is None:
            self._succeeded(task, name)
            await self._fail(task, DownloadError(error.reason or "refused", error.message, error.hint))
            return
        self._back_off(task, name, reason)
        hint = hint_for_refusal(name, error)
        await self._database.run(downloads.note_waiting, [task.ref.id], reason.value, hint)
        if reason.was_not_taken and task.ref.upload_id is None:
            await self._database.run(downloads.unassign, task.ref.id, name)

    async def _fail(self, task: DownloadTask, error: DownloadError) -> None:
        await self._database.run(downloads.fail, task.ref.id, error)
        self._on_end(task)

    async def _delete(self, task: DownloadTask, name: str) -> None:
        """Abort its download and remove its files; a later pass repeats this until an SSVM confirms it."""
        peer = self._agents.peer(name)
        if peer is None:
            return
        account_id, template_id = templates.place_of(task.ref, task.template)
        order = TemplateDelete(
            job_id=task.ref.job_id,
            store=task.store.wire,
            account_id=account_id,
            template_id=template_id,
        )
        try:
            if not task.ref.state.ended:
                await self._abort(peer, task, name)
            await peer.call(
                storage.TEMPLATE_DELETE, order, result=Acknowledgement, deadline_s=DELETE_DEADLINE_S
            )
        except RpcError as error:
            self._log.info(
                "{agent} could not delete {template}: {error}",
                agent=name,
                template=task.template.name,
                error=error,
            )
            self._back_off(task, name, WaitReason.of(error))
            return
        self._succeeded(task, name)
        await self._database.run(downloads.forget_files, task.ref.id)
        self._on_end(task)

    async def _abort(self, peer: AgentPeer, task: DownloadTask, name: str) -> None:
        try:
            await peer.call(
                storage.TEMPLATE_ABORT, DownloadAbort(task.ref.job_id), deadline_s=CALL_DEADLINE_S
            )
        except RpcError as error:
            self._log.debug("{agent} had nothing to abort: {error}", agent=name, error=error)

    def _back_off(self, task: DownloadTask, name: str, reason: WaitReason | None) -> None:
        if reason is not None and reason.is_of_ssvm:
            self._reasons[name] = reason
            self._backoff.failed(name)
        elif reason is not None and reason.is_of_store:
            self._backoff.failed((name, task.store.id))
        else:
            self._backoff.failed(task.ref.id)

    def _succeeded(self, task: DownloadTask, name: str, *, is_store_usable: bool = True) -> None:
        self._backoff.succeeded(name)
        self._backoff.succeeded(task.ref.id)
        if is_store_usable:
            self._backoff.succeeded((name, task.store.id))
        self._reasons.pop(name, None)


def _no_snapshots(name: str) -> DownloadError:
    hint = f"destroy {name}: the daemon creates one from the current image; then create the template again"
    return DownloadError("refused", f"{name} is of an older image and reads no snapshots", hint)


def _no_uploads(name: str) -> DownloadError:
    hint = f"destroy {name}: the daemon creates one from the current image"
    return DownloadError("refused", f"{name} is of an older image and receives no uploads", hint)

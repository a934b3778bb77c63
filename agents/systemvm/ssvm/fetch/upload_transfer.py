# SPDX-License-Identifier: Apache-2.0
"""One upload: waits for its client, and has a mover write what each of its requests brings."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall

from systemvm.ssvm import checksum, store_messages
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.bucket_job import BucketJob
from systemvm.ssvm.fetch.bucket_store import BucketStore
from systemvm.ssvm.fetch.cancellation import Cancellation, aborted_error
from systemvm.ssvm.fetch.gate_place import GatePlace
from systemvm.ssvm.fetch.job_gate import JobGate
from systemvm.ssvm.fetch.job_on_store import JobOnStore
from systemvm.ssvm.fetch.mover_parking import MoverParking
from systemvm.ssvm.fetch.mover_spawner import MoverSpawner
from systemvm.ssvm.fetch.retry import RetryBudget
from systemvm.ssvm.fetch.space_ledger import SpaceLedger
from systemvm.ssvm.fetch.store_connector import StoreConnector
from systemvm.ssvm.fetch.transfer_job import TransferJob
from systemvm.ssvm.fetch.transfer_progress import TransferProgress
from systemvm.ssvm.fetch.upload_facts import UploadFacts, failed
from systemvm.ssvm.fetch.upload_mover import UploadMover
from systemvm.ssvm.fetch.upload_port import BodyConnection
from systemvm.ssvm.fetch_messages import FetchStatus
from systemvm.ssvm.limits import TransferLimits
from systemvm.ssvm.mover_messages import MoverProgress, MoverResult
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.s3.endpoint import endpoint_of
from systemvm.ssvm.store_messages import JobKey
from systemvm.ssvm.upload_messages import UploadAction, UploadAnswer, UploadCall, UploadOrder, UploadRefusal
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.transfer_failure import TransferFailure


class UploadTransfer(TransferJob):
    """An upload, a job of fetch beside `Transfer`; `on_change` is called with each new status."""

    def __init__(
        self,
        reactor: Any,
        paths: Paths,
        limits: TransferLimits,
        spawner: MoverSpawner,
        gate: JobGate,
        space: SpaceLedger,
        parking: MoverParking,
        order: UploadOrder,
        buckets: BucketStore,
        on_change: Callable[[FetchStatus], None],
        reserve: Callable[[str, int], Awaitable[None]],
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._reactor = reactor
        self._limits = limits
        self._parking = parking
        self._order = order
        self._reserve = reserve
        self._unix_s = unix_s
        self._expires_unix_s = order.expires_unix_s
        self._facts = UploadFacts(
            order.max_size_bytes, order.total_bytes, has_begun=order.total_bytes is not None
        )
        key = JobKey(store_messages.mount_id(order.store), order.owner, order.job_id)
        self._budget = RetryBudget(limits, reactor.seconds)
        self._store_budget = RetryBudget(limits, reactor.seconds)
        super().__init__(
            order.job_id,
            self._open_bucket(buckets, order.bucket, key) or JobOnStore(reactor, paths, limits, key),
            TransferProgress(order.job_id, on_change),
            Cancellation(),
        )
        self._mover = UploadMover(
            reactor,
            limits,
            spawner,
            order,
            self._facts,
            self._store,
            space,
            GatePlace(gate, self._progress, self._cancellation),
            self._progress,
            self._cancellation,
            self._progressed,
            self._mover_waits,
        )
        self._is_admitting = False  # a body: another one has to wait
        self._is_parked_out = False  # its mover was ended only because it waited
        self._waiting: list[Deferred[None]] = []  # for a mover that waits for a body
        self._called: Deferred[None] | None = None  # waits for a client
        self._deadline: IDelayedCall | None = None
        self._error: TransferError | None = None  # what ends it

    async def _move(self) -> MoverResult:
        """Receive the file, however often its client comes."""
        order = self._order
        self._log.info(
            "{job_id}: waits for the upload of template {template_id} (request {request_id})",
            job_id=order.job_id, template_id=order.template_id, request_id=order.request_id,
        )  # fmt: skip
        self._progress.add_step("waits for the client that uploads the file")
        self._await_client()
        checksum.parse(order.checksum)
        return await self._receive()

    def _ended(self, moved: MoverResult | None) -> None:
        self._disarm()
        self._release()  # an earlier mover had the whole file: this one waited for nobody

    def renew(self, expires_unix_s: float) -> None:
        """Let an upload that has not begun do so until then: its URL was signed again."""
        self._expires_unix_s = expires_unix_s
        if self._deadline is not None and not self._facts.has_begun:
            self._await_client()

    def abort(self) -> None:
        """Stop as soon as possible, whoever else has ended it."""
        self._cancellation.abort()
        self._stop(aborted_error())

    def _kill_mover(self, error: TransferError) -> bool:
        return self._mover.kill(error)

    def _mover_ended(self) -> Awaitable[None]:
        return self._mover.when_ended()

    def renew_keys(self, bucket: S3Bucket | None) -> None:
        """Use other keys of the store from the next mover on."""
        if bucket is not None and isinstance(self._store, BucketJob):
            self._store.renew_keys(bucket)

    def _open_bucket(self, buckets: BucketStore, bucket: S3Bucket | None, key: JobKey) -> BucketJob | None:
        if bucket is None:
            return None
        connector = StoreConnector(
            self._reactor, endpoint_of(bucket), self._limits, self._store_budget, Cancellation()
        )
        return BucketJob(self._reactor, buckets, bucket, key, self._order, connector, is_copy=False)

    async def _receive(self) -> MoverResult:
        while True:
            if not self._waiting:
                self._called = Deferred()
                await self._cancellation.run(self._called)
                self._called = None
            try:
                moved = await self._mover.run()
            except TransferError as error:
                goes_on = self._can_continue(error)
                self._mover.end_body(failed(self._error or error, goes_on=goes_on or self._is_suspended))
                if not goes_on:
                    raise
                self._log.info(
                    "{job_id}: its mover has ended: {error}", job_id=self._order.job_id, error=str(error)
                )
                if self._deadline is None:  # it was receiving
                    self._await_client()
            else:
                size_bytes = moved.received_bytes
                self._mover.end_body(UploadAnswer(None, size_bytes, size_bytes, is_complete=True))
                return moved
            finally:
                self._parking.leave(self._order.job_id)

    def _can_continue(self, error: TransferError) -> bool:
        """Whether another mover can go on, from its predecessor's journal or from the first byte."""
        if self._error is not None or self._cancellation.is_aborted or self._facts.is_one_time:
            return False
        if self._is_parked_out:
            self._is_parked_out = False
            return True
        if error.code is TransferFailure.STORE_UNREACHABLE:
            self._store_budget.renew()  # the client decides how often, until it has no more time
            return True
        if error.code in (TransferFailure.WORKER_DIED, TransferFailure.SOURCE_CHANGED):
            return self._budget.replace_worker()
        # as in a download: the server of the store can be gone for longer than the mount waits
        is_of_store = error.code is TransferFailure.STORE_FAILED
        return is_of_store and self._budget.is_transient(error) and self._budget.restart()

    def _progressed(self, progress: MoverProgress) -> None:
        if progress.received_bytes:
            self._budget.note_progress(progress.received_bytes)
            self._store_budget.note_progress(progress.received_bytes)
        self._progress.update(progress)

    def _mover_waits(self) -> None:
        self._parking.enter(self._order.job_id, self._limits.upload_idle_s, self._park_out)
        self._await_client()
        self._release()

    def _release(self) -> None:
        """Let those go on that wait for a mover."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def _park_out(self) -> None:
        pauses = TransferError(TransferFailure.WORKER_DIED, "its client pauses")
        self._is_parked_out = self._mover.kill(pauses)

    # ---- calls of serve ------------------------------------------------------------------------------------

    async def serve(self, call: UploadCall, client: BodyConnection) -> None:
        """Carry out a call, and answer it."""
        try:
            if self._error is not None or self.state.ended:
                client.answer(self._answer())
            elif call.action is UploadAction.CREATE:
                client.answer(await self._create(call))
            elif call.action is UploadAction.TERMINATE:
                self._stop(TransferError(TransferFailure.ABORTED, "its client has ended the upload"))
                client.answer(UploadAnswer())
            elif call.action is UploadAction.STATUS:
                await self._ready(client)
                client.answer(self._answer())
            else:
                await self._accept(call, client)
        except TransferError as error:
            client.answer(failed(self._error or error, goes_on=self._error is None or self._is_suspended))

    def _answer(self) -> UploadAnswer:
        """Return the answer to the question how far the upload is."""
        state = self.state
        if state.moved is not None:
            received = state.moved.received_bytes
            return UploadAnswer(None, received, received, is_complete=True)
        if state.status.error is not None:
            error = state.status.error
            return UploadAnswer(UploadRefusal.ENDED, code=error.code, message=error.message)
        if self._error is not None:
            return failed(self._error, goes_on=self._is_suspended)
        return self._facts.answer()

    async def _create(self, call: UploadCall) -> UploadAnswer:
        refused = self._facts.refuse_length(call.total_bytes) or await self._refuse_quota(call.total_bytes)
        if self._error is not None or self.state.ended:  # meanwhile
            return self._answer()
        if refused is not None:
            return refused
        self._facts.total_bytes = call.total_bytes
        self._facts.has_begun = True
        self._await_client()
        self._progress.update(MoverProgress(self._facts.received_bytes, call.total_bytes, 0))
        return self._facts.answer()

    async def _refuse_quota(self, total_bytes: int | None) -> UploadAnswer | None:
        """Return why the account has no room for the file, whose client can come again; None when it has."""
        if total_bytes is None or not self._order.has_quota:
            return None
        try:
            await self._reserve(self._order.job_id, total_bytes)
        except TransferError as error:
            return self._facts.refuse(UploadRefusal.TOO_LARGE, error.message)
        return None

    async def _accept(self, call: UploadCall, client: BodyConnection) -> None:
        if self._facts.is_one_time:
            client.answer(self._facts.refuse(UploadRefusal.USED))
            return
        if self._is_admitting or (self._mover.is_receiving and not self._mover.is_stuck):
            client.answer(self._facts.refuse(UploadRefusal.LOCKED))
            return
        self._is_admitting = True
        try:
            self._mover.take_over()
            await self._ready(client)
            if self.state.ended:
                client.answer(self._answer())
                return
            refused = self._facts.refuse_body(call)
            if refused is not None:
                client.answer(refused)
                return
            client.on_lost(self._cancellation.cancel)
            try:
                await self._mover.enter_gate()
            finally:
                client.on_lost(None)
            if client.is_lost:
                self._mover.leave_gate()
                return
            self._parking.leave(self._order.job_id)
            self._disarm()
            self._mover.receive(call, client)
        finally:
            self._is_admitting = False

    async def _ready(self, client: BodyConnection) -> None:
        """Return when the offset is known; start a mover if there is none."""
        if self._mover.is_ready or (self._mover.is_receiving and not self._is_admitting):
            return
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        client.on_lost(waiter.cancel)
        if self._called is not None and not self._called.called:
            self._called.callback(None)
        try:
            await waiter
        except CancelledError:
            raise TransferError(TransferFailure.CONNECTION_LOST, "its client has gone") from None
        finally:
            client.on_lost(None)
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    # ---- its end -------------------------------------------------------------------------------------------

    def _await_client(self) -> None:
        """Give the client time to come, or to come again."""
        self._disarm()
        if self._facts.has_begun:
            delay_s = self._limits.upload_abandoned_s
            error = TransferError(
                TransferFailure.STALLED,
                f"nobody went on with the upload for {delay_s:g} s",
                "upload the file again with a new URL",
            )
        else:
            delay_s = max(0.0, self._expires_unix_s - self._unix_s())
            error = TransferError(
                TransferFailure.UPLOAD_EXPIRED,
                "upload did not begin before its URL expired",
                "request a new URL, then upload the file",
            )
        self._deadline = self._reactor.callLater(delay_s, self._stop, error)

    def _disarm(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None

    def _stop(self, error: TransferError) -> None:
        self._error = self._error or error
        self._disarm()
        if not self._mover.kill(error):
            self._cancellation.cancel()

    async def _fail(self, error: TransferError) -> None:
        self._disarm()
        self._error = self._error or error
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.errback(self._error)
        await super()._fail(self._error)

# SPDX-License-Identifier: Apache-2.0
"""The mover of one upload: it gets the body of one request after another, and waits in between."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from systemvm.service.scaled_timer import add_scaled_timeout
from systemvm.ssvm import store_messages
from systemvm.ssvm.failure import TransferError, of_this_vm
from systemvm.ssvm.fetch.bucket_job import BucketJob
from systemvm.ssvm.fetch.cancellation import Cancellation
from systemvm.ssvm.fetch.gate_place import GatePlace
from systemvm.ssvm.fetch.job_store import JobStore, open_place
from systemvm.ssvm.fetch.mover_process import MoverProcess
from systemvm.ssvm.fetch.mover_spawner import MoverSpawner
from systemvm.ssvm.fetch.space_ledger import SpaceLedger
from systemvm.ssvm.fetch.transfer_progress import TransferProgress
from systemvm.ssvm.fetch.upload_facts import UploadFacts, failed
from systemvm.ssvm.fetch.upload_port import BodyConnection
from systemvm.ssvm.limits import TransferLimits
from systemvm.ssvm.mover_messages import MoverJob, MoverProgress, MoverResult, UploadBody
from systemvm.ssvm.store_messages import JobDirectory
from systemvm.ssvm.upload_messages import UploadAnswer, UploadCall, UploadOrder, UploadRefusal
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

#: A client that sends one small body after another keeps its place among the jobs for so long in between.
PLACE_GRACE_S = 2.0


class UploadMover:
    """Runs one process after another; `on_wait` is called whenever one waits for a body."""

    def __init__(
        self,
        reactor: Any,
        limits: TransferLimits,
        spawner: MoverSpawner,
        order: UploadOrder,
        facts: UploadFacts,
        store: JobStore,
        space: SpaceLedger,
        place: GatePlace,
        progress: TransferProgress,
        cancellation: Cancellation,
        on_progress: Callable[[MoverProgress], None],
        on_wait: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._limits = limits
        self._spawner = spawner
        self._order = order
        self._facts = facts
        self._store = store
        self._bucket = store if isinstance(store, BucketJob) else None
        self._space = space
        self._place = place
        self._progress = progress
        self._cancellation = cancellation
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._process: MoverProcess | None = None
        self._made = JobDirectory(0)
        self._body: BodyConnection | None = None
        self._last_progress: MoverProgress | None = None
        self._changed_s = 0.0  # when a byte came last
        self._leaving: IDelayedCall | None = None  # the place, unless another body comes
        self.is_ready = False  # it waits for a body, and the offset is known

    @property
    def is_receiving(self) -> bool:
        return self._body is not None

    @property
    def is_stuck(self) -> bool:
        """Whether the body that it receives brings nothing."""
        still_s: float = self._reactor.seconds() - self._changed_s
        return still_s >= self._limits.upload_takeover_s

    async def run(self) -> MoverResult:
        """Have a process receive the file, from what an earlier one left of it.

        Raises: TransferError when it does not get to its end.
        """
        is_open = False
        try:
            async with open_place(self._store, self._cancellation, self._progress) as place:
                self._made, is_open = place.made, True
                try:
                    return await self._move(place.descriptor)
                finally:
                    self._space.release(self._order.job_id)
        except TransferError as error:
            raise error if is_open else _of_store(error) from error

    async def enter_gate(self) -> None:
        """Wait for a place among the jobs of this VM; the end of the body gives it back.

        Raises: TransferError `aborted` when `Cancellation.cancel` ends the wait.
        """
        if self._leaving is None:
            await self._place.enter()
        else:
            self._keep_place()

    def leave_gate(self) -> None:
        self._keep_place()
        self._place.leave()

    def receive(self, call: UploadCall, client: BodyConnection) -> None:
        """Pass a body to the process, which has a place; a failure kills it."""
        process = self._process
        if process is None or not self.is_ready:
            self.leave_gate()
            client.answer(UploadAnswer(UploadRefusal.BROKEN))
            return
        self._facts.begin_body(call)
        self._body, self.is_ready = client, False
        self._changed_s = self._reactor.seconds()
        try:
            self._reserve_space(call.body_bytes if call.is_whole else self._facts.total_bytes)
            with client.accept(self._facts.answer()) as connection:
                process.resume(self._job(), connection)
        except TransferError as error:
            process.kill(error)
        else:
            self._progress.add_step("receives and checks the file from its client", notify=True)

    def take_over(self) -> None:
        """End the body that is being received, whose client has gone without a word."""
        if self._body is not None:
            self._body.break_off()

    def end_body(self, answer: UploadAnswer) -> None:
        """Answer the body that is being received, if there is one."""
        body, self._body = self._body, None
        if body is not None:
            self._keep_place()
            self._leaving = self._reactor.callLater(PLACE_GRACE_S, self.leave_gate)
            body.answer(answer)

    def kill(self, error: TransferError) -> bool:
        """Kill the process; return whether there is one."""
        self.is_ready = False
        if self._process is None:
            return False
        self._process.kill(error)
        return True

    async def when_ended(self) -> None:
        """Wait until no process has the job's files open, however long the kernel takes."""
        if self._process is not None:
            await self._process.when_ended()

    async def _move(self, directory: int) -> MoverResult:
        ours, theirs = socket.socketpair()
        process = self._process = MoverProcess(
            self._reactor,
            self._spawner,
            self._job(),
            self._progressed,
            self._waits,
            lambda: self._place.store_stalls(True),
            on_store_broken=None if self._bucket is None else self._store_broke,
        )
        ours.close()
        try:
            with theirs:  # stands in for a source: every body comes later
                return await process.run(theirs, directory)
        finally:
            self.is_ready = False
            self._cancellation.cancel()  # a place is of no use any more
            if self._bucket is not None:
                self._bucket.cancel()
            if not self._cancellation.is_aborted:
                waiting = add_scaled_timeout(
                    process.when_ended(), self._limits.store_timeout_s, self._reactor
                )
                with suppress(Exception):
                    await waiting
                self._process = None

    def _job(self) -> MoverJob:
        order = self._order
        what = f"upload {order.job_id} {order.format.value} {order.checksum or ''}"
        return MoverJob(
            job_id=order.job_id,
            host="the client",
            authority="",
            target="",
            is_tls=False,
            format=order.format,
            max_size_bytes=order.max_size_bytes,
            checksum=order.checksum,
            limits=self._limits,
            request_id=order.request_id,
            source_id=hashlib.sha256(what.encode()).hexdigest(),
            upload=UploadBody(self._facts.total_bytes, self._facts.is_one_time),
            object_target=None if self._bucket is None else self._bucket.target(None),
        )

    def _reserve_space(self, total_bytes: int | None) -> None:
        if total_bytes is not None and self._order.format is not ImageFormat.RAW:
            self._space.reserve(
                self._order.job_id,
                store_messages.mount_id(self._order.store),
                total_bytes,
                self._made.free_bytes,
                self._made.kept_bytes,
            )

    def _progressed(self, progress: MoverProgress) -> None:
        facts = self._facts
        if progress != self._last_progress:
            if self._body is not None:
                self._place.store_stalls(False)
            self._changed_s = self._reactor.seconds()
        self._last_progress = progress
        facts.received_bytes = progress.received_bytes
        if progress.total_bytes is not None:
            facts.total_bytes = progress.total_bytes
        facts.has_begun = facts.has_begun or progress.received_bytes > 0
        self._space.note(self._order.job_id, progress.received_bytes)
        self._on_progress(evolve(progress, total_bytes=facts.total_bytes))

    def _waits(self, error: TransferError) -> None:
        """The process has all bytes of a body that has ended, or those of one that broke off."""
        if error.code is TransferFailure.TRUNCATED:
            self.end_body(self._facts.answer())
        else:
            self.end_body(failed(error, goes_on=True))
            self._progress.add_step(f"waits for its client to resume: {error.message}", notify=True)
        self.is_ready = True
        self._on_wait()

    def _store_broke(self, error: TransferError) -> None:
        """Give the process another connection to its bucket, or kill it."""
        process, bucket = self._process, self._bucket
        if process is None or bucket is None:
            return

        async def resume() -> None:
            with await bucket.reconnect(error) as connection:
                process.resume_store(self._job(), connection)

        def failed(failure: Failure) -> None:
            why = failure.value
            process.kill(_of_store(why) if isinstance(why, TransferError) else of_this_vm(why))

        Deferred.fromCoroutine(resume()).addErrback(failed)

    def _keep_place(self) -> None:
        if self._leaving is not None and self._leaving.active():
            self._leaving.cancel()
        self._leaving = None


def _of_store(error: TransferError) -> TransferError:
    """Return the error of an S3 server that cannot be reached: its client can go on later."""
    if not error.code.is_retryable:
        return error
    return TransferError(TransferFailure.STORE_UNREACHABLE, error.message, error.hint)

# SPDX-License-Identifier: Apache-2.0
"""One download: finds the source, opens the connection, and has a mover write the image."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.rpc.core.errors import RpcError
from systemvm.service.scaled_timer import add_scaled_timeout
from systemvm.ssvm import checksum, helper_client, store_messages
from systemvm.ssvm.failure import TransferError, of_this_vm
from systemvm.ssvm.fetch.address_policy import AddressPolicy
from systemvm.ssvm.fetch.cancellation import Cancellation, aborted_error, unless_cancelled
from systemvm.ssvm.fetch.job_gate import JobGate
from systemvm.ssvm.fetch.mover_process import MoverProcess
from systemvm.ssvm.fetch.mover_spawner import MoverSpawner
from systemvm.ssvm.fetch.redirects import HopObserver
from systemvm.ssvm.fetch.retry import RetryBudget
from systemvm.ssvm.fetch.source import DownloadSource, SourcePolicy
from systemvm.ssvm.fetch.source_finder import SourceFinder
from systemvm.ssvm.fetch.source_id import source_id
from systemvm.ssvm.fetch.space_ledger import SpaceLedger
from systemvm.ssvm.fetch.transfer_progress import TransferProgress
from systemvm.ssvm.fetch_messages import MAX_CA_CHARACTERS, FetchStatus, StartRequest
from systemvm.ssvm.limits import GIB, TransferLimits
from systemvm.ssvm.mover_messages import MoverJob, MoverProgress, MoverResult
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.store_messages import JobDirectory, JobKey
from systemvm.ssvm.store_retry import retry_transient_errors
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.checksum import is_url
from systemvm.wire.source_url import SourceUrl
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

LARGE_BYTES = 4 * GIB  # such downloads leave a place to smaller ones
#: How long an abort waits for the store: somebody waits for its answer.
ABORT_WAIT_S = 0.5
#: A mover, which reads what strangers send, cannot have fetch open connections without end.
MIN_CONNECTION_INTERVAL_S = 0.5


class Transfer:
    """A job of fetch; `state` is its status at any time, `on_change` is called with each new one."""

    _log = Logger(namespace="systemvm.ssvm.fetch.transfer")

    def __init__(
        self,
        reactor: Any,
        paths: Paths,
        limits: TransferLimits,
        spawner: MoverSpawner,
        gate: JobGate,
        space: SpaceLedger,
        start: StartRequest,
        on_change: Callable[[FetchStatus], None],
    ) -> None:
        self._reactor = reactor
        self._paths = paths
        self._limits = limits
        self._spawner = spawner
        self._gate = gate
        self._space = space
        self._request = start.download
        self._policy = SourcePolicy(
            AddressPolicy.of_zone(((denied.cidr, denied.what) for denied in start.denied), start.opened),
            start.download.source_ca_pem,
            bool(start.download.checksum),
            start.download.access,
        )
        self._job = JobKey(store_messages.mount_id(start.download.store), start.owner, start.download.job_id)
        self._cancellation = Cancellation()
        self._progress = TransferProgress(start.download.job_id, on_change)
        self._mover: MoverProcess | None = None
        self._finder: SourceFinder | None = None
        self._budget = RetryBudget(limits, reactor.seconds)
        self._last_progress: MoverProgress | None = None
        self._source: DownloadSource | None = None  # of the connection that the mover has
        self._next_connection_s = 0.0
        self._made = JobDirectory(0)
        self._is_large = False
        self._is_suspended = False
        self._cleaning: Deferred[None] | None = None

    @property
    def state(self) -> FetchStatus:
        return self._progress.state

    @property
    def is_cleaning_up(self) -> bool:
        """Whether something of the job can still be on the store, after it has ended."""
        return self._cleaning is not None

    async def run(self) -> None:
        """Download, and retry as the budget allows; the outcome is in `state`."""
        request = self._request
        self._log.info(
            "{job_id}: begins, template {template_id} (request {request_id})",
            job_id=request.job_id, template_id=request.template_id, request_id=request.request_id,
        )  # fmt: skip
        try:
            moved = await self._download_with_retries()
        except TransferError as error:
            await self._fail(error)
        except RpcError as error:
            await self._fail(TransferError.from_rpc(error))
        except Exception as error:
            self._log.failure("{job_id}: unexpected failure", job_id=request.job_id)
            await self._fail(of_this_vm(error))
        else:
            self._log.info(
                "{job_id}: received {size} bytes", job_id=request.job_id, size=moved.received_bytes
            )
            self._progress.complete(moved)

    def abort(self) -> None:
        """Stop as soon as possible; the job then fails with `aborted`."""
        self._cancellation.abort()
        if self._mover is not None:
            self._mover.kill(aborted_error())
        else:
            self._cancellation.cancel()

    def suspend(self) -> None:
        """Stop without an outcome: what is on the store stays, and the next fetch continues there."""
        self._is_suspended = True
        self.abort()

    async def _download_with_retries(self) -> MoverResult:
        while True:
            try:
                return await self._download()
            except TransferError as error:
                delay_s = self._delay_before_restart(error)
                if delay_s is None:
                    raise
                self._progress.add_step(f"restarts in {delay_s:.0f} s: {error.message}", notify=True)
                self._log.warn(
                    "{job_id}: restarts: {error}",
                    job_id=self._request.job_id,
                    error=str(error),
                )
            await self._cancellation.run(deferLater(self._reactor, delay_s))
            self._progress.restart()

    def _delay_before_restart(self, error: TransferError) -> float | None:
        """Seconds until another mover can continue, or begin anew; None when `error` is final."""
        if self._cancellation.is_aborted:
            return None
        if self._finder is not None:
            self._finder.note(error)
            if self._finder.can_replace(error):
                return 0.0
        if error.code is TransferFailure.WORKER_DIED:
            return 0.0 if self._budget.replace_worker() else None
        if not self._budget.is_transient(error) or not self._budget.restart():
            return None
        return self._budget.next_delay_s(error)

    async def _download(self) -> MoverResult:
        first = self._check_request()
        self._progress.add_step("requests a directory on the store")
        # before the URL is used at all: is there a store?
        made, descriptors = await self._cancellation.run(
            retry_transient_errors(
                self._reactor,
                lambda: self._call_store(store_messages.MAKE, JobDirectory),
                what=f"{self._request.job_id}: store.make",
                is_wanted=lambda: not self._cancellation.is_aborted,
                on_wait=lambda error: self._progress.wait_for_store(),
            )
        )
        self._progress.stop_waiting_for_store()
        try:
            self._cancellation.check_not_aborted()
            if len(descriptors) != 1:
                raise TransferError(TransferFailure.STORE_FAILED, "store helper returned no directory")
            self._made = made
            return await self._move_when_admitted(first, descriptors[0])
        finally:
            self._space.release(self._request.job_id)
            for descriptor in descriptors:
                os.close(descriptor)

    def _check_request(self) -> SourceFinder:
        request = self._request
        if self._finder is not None:
            return self._finder
        if request.checksum is None or not is_url(request.checksum):
            checksum.parse(request.checksum)
        if request.source_ca_pem and len(request.source_ca_pem) > MAX_CA_CHARACTERS:
            raise TransferError(
                TransferFailure.REQUEST_INVALID,
                f"source CA is too long: {len(request.source_ca_pem)} characters, the maximum is"
                f" {MAX_CA_CHARACTERS}",
            )
        self._finder = self._make_finder()
        return self._finder

    async def _move_when_admitted(self, first: SourceFinder, directory: int) -> MoverResult:
        """Wait until the gate admits another job; one that waits for its store has no place in the gate."""
        if self._gate.is_full:
            self._progress.add_step("is queued: other downloads use the capacity of this machine")
        await self._cancellation.run(self._gate.enter())
        try:
            self._cancellation.check_not_aborted()
            return await self._move(first, directory)
        finally:
            self._store_stalls(False)
            if self._is_large:
                self._is_large = False
                self._gate.leave_large()
            self._gate.leave()

    def _store_stalls(self, stalls: bool) -> None:
        """Give the place in the gate to others while the mover waits for its store."""
        if stalls and not self._progress.state.status.waits_for_store:
            self._gate.leave()
            self._progress.wait_for_store()
        elif not stalls and self._progress.state.status.waits_for_store:
            self._gate.enter_at_once()
            self._progress.stop_waiting_for_store()

    async def _move(self, first: SourceFinder, directory: int) -> MoverResult:
        source = await self._cancellation.run(first.find())
        if (source.total_bytes or 0) >= LARGE_BYTES and not self._is_large:
            self._is_large = True
            if await self._cancellation.run(self._gate.enter_large()):
                source = await self._cancellation.run(first.find())  # the first answer is old by now
        self._reserve_space(source)
        size = "a file" if source.total_bytes is None else f"{source.total_bytes} bytes"
        self._progress.add_step(
            f"receives and checks {size} from {source.url.origin} at {source.route.address}"
        )
        connection = await self._connect(source)
        self._source = source
        with connection:
            self._cancellation.check_not_aborted()
            mover = self._mover = MoverProcess(
                self._reactor,
                self._spawner,
                self._mover_job(source),
                self._progressed,
                lambda error: self._connection_broke(mover, first, error),
                lambda: self._store_stalls(True),
                lambda: self._add_connection(mover),
            )
            try:
                return await mover.run(connection, directory)
            finally:
                self._cancellation.cancel()  # a new connection is of no use any more
                if not self._cancellation.is_aborted:
                    await self._wait_until_gone(mover)
                    self._mover = None

    def _reserve_space(self, source: DownloadSource) -> None:
        """Reserve space before the first byte; a raw disk can fit by its holes.

        Raises: TransferError when the store has no room beside what other downloads still need.
        """
        if source.total_bytes is None or self._request.format is ImageFormat.RAW:
            return
        free_bytes, kept_bytes = self._made.free_bytes, self._made.kept_bytes
        job = self._job
        self._space.reserve(job.job_id, job.mount_id, source.total_bytes, free_bytes, kept_bytes)

    def _connection_broke(self, mover: MoverProcess, first: SourceFinder, error: TransferError) -> None:
        """Give the mover another connection, or kill it."""

        def failed(failure: Failure) -> None:
            mover.kill(self._as_transfer_error(failure.value))

        Deferred.fromCoroutine(self._reconnect(mover, first, error)).addErrback(failed)

    async def _reconnect(self, mover: MoverProcess, first: SourceFinder, error: TransferError) -> None:
        """Find the source again, as signed redirects expire and addresses fail, and resume the mover."""
        while True:
            first.note(error)
            delay_s = self._budget.next_delay_s(error) if error.code.is_retryable else None
            if delay_s is None:
                raise error
            self._progress.add_step(f"resumes in {delay_s:.0f} s: {error.message}", notify=True)
            self._log.info(
                "{job_id}: resumes in {delay_s} s: {error}",
                job_id=self._request.job_id, delay_s=round(delay_s, 1), error=str(error),
            )  # fmt: skip
            await self._cancellation.run(deferLater(self._reactor, delay_s))
            try:
                source = await self._cancellation.run(first.find())
                connection = await self._connect(source)
            except TransferError as failed:
                error = failed
                continue
            self._source = source
            with connection:
                mover.resume(self._mover_job(source), connection)
            return

    def _add_connection(self, mover: MoverProcess) -> None:
        """Open one more connection on the same route, for parts of the file; not to do so is no failure."""
        source, now_s = self._source, self._reactor.seconds()
        if source is None or now_s < self._next_connection_s or self._cancellation.is_aborted:
            return
        self._next_connection_s = now_s + MIN_CONNECTION_INTERVAL_S

        def opened(connection: socket.socket) -> None:
            with connection:
                mover.add_connection(self._mover_job(source), connection)

        def failed(failure: Failure) -> None:
            self._log.info(
                "{job_id}: no further connection: {why}",
                job_id=self._request.job_id, why=failure.getErrorMessage(),
            )  # fmt: skip

        source.connect(self._reactor, self._limits).addCallbacks(opened, failed)

    def _make_finder(self) -> SourceFinder:
        def log_redirect(here: SourceUrl, target: SourceUrl) -> None:
            self._log.info(
                "{job_id}: {origin} redirects to {target}",
                job_id=self._request.job_id, origin=here.origin, target=target.origin,
            )  # fmt: skip

        return SourceFinder(
            self._reactor,
            self._request,
            self._policy,
            self._limits,
            HopObserver(
                lambda here: self._progress.add_step(f"requests the first byte from {here.origin}"),
                log_redirect,
            ),
        )

    def _mover_job(self, source: DownloadSource) -> MoverJob:
        request = self._request
        return MoverJob(
            job_id=request.job_id,
            host=source.url.host,
            authority=source.url.authority,
            target=source.url.target,
            is_tls=source.url.is_tls,
            format=request.format,
            max_size_bytes=request.max_size_bytes,
            checksum=source.checksum,
            source_ca_pem=request.source_ca_pem,
            announced_bytes=source.total_bytes,
            limits=self._limits,
            request_id=request.request_id,
            authorization=source.authorization,
            member_directory=source.member_directory,
            has_mirrors=source.has_mirrors,
            source_id="" if source.member_directory else source_id(request),
        )

    def _progressed(self, progress: MoverProgress) -> None:
        if progress != self._last_progress:
            self._store_stalls(False)
        self._last_progress = progress
        if progress.received_bytes:
            self._budget.note_progress(progress.received_bytes)
            self._space.note(self._request.job_id, progress.received_bytes)
        self._progress.update(progress)

    async def _fail(self, error: TransferError) -> None:
        if self._is_suspended:
            return
        if self._cancellation.is_aborted:
            error = aborted_error()
        self._log.info(
            "{job_id}: failed, {code}: {message}",
            job_id=self._request.job_id, code=error.code.value, message=error.message,
        )  # fmt: skip
        # before the failure is reported: whoever receives it relies on a store without leftovers; but who
        # aborts does not wait for a store that hangs
        await self._wait_for(self._clean_up(), ABORT_WAIT_S if self._cancellation.is_aborted else None)
        self._progress.fail(error)

    async def _clean_up(self) -> None:
        """Remove the job's directory, however long the store takes."""
        if self._mover is not None:
            await self._mover.when_ended()
        try:
            await retry_transient_errors(
                self._reactor,
                lambda: self._call_store(store_messages.DISCARD),
                what=f"{self._request.job_id}: store.discard",
                is_wanted=lambda: not self._is_suspended,
            )
        except RpcError as left:
            self._log.warn(
                "{job_id}: its directory could not be removed: {error}",
                job_id=self._request.job_id,
                error=str(left),
            )

    async def _wait_for(self, cleaning: Coroutine[Any, Any, None], at_most_s: float | None) -> None:
        waiter: Deferred[None] = Deferred()

        def cleaned(_: object) -> None:
            self._cleaning = None
            if not waiter.called:
                waiter.callback(None)

        self._cleaning = Deferred.fromCoroutine(cleaning)
        self._cleaning.addBoth(cleaned)
        if at_most_s is not None:
            add_scaled_timeout(waiter, at_most_s, self._reactor)
        with suppress(DeferredTimeout):
            await waiter

    async def _call_store(self, method: str, result: Any = Acknowledgement) -> tuple[Any, list[int]]:
        return await helper_client.call(
            self._reactor,
            self._paths.store_socket,
            method,
            self._job,
            result,
            self._limits.store_timeout_s,
        )

    async def _connect(self, source: DownloadSource) -> socket.socket:
        connecting = source.connect(self._reactor, self._limits)
        connection: socket.socket = await self._cancellation.run(unless_cancelled(connecting))
        return connection

    async def _wait_until_gone(self, mover: MoverProcess) -> None:
        """Wait for the end of the process, but not for ever: it can hang in the kernel."""
        waiting = add_scaled_timeout(mover.when_ended(), self._limits.store_timeout_s, self._reactor)
        with suppress(Exception):
            await waiting

    def _as_transfer_error(self, error: BaseException | None) -> TransferError:
        if isinstance(error, TransferError):
            return error
        self._log.error("Unexpected failure of fetch: {error!r}", error=error)
        return of_this_vm(error)

# SPDX-License-Identifier: Apache-2.0
"""The mover of one job: given a connection, another one when that breaks, and more of them on demand."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.service.scaled_timer import add_scaled_timeout
from systemvm.ssvm.failure import TransferError, of_this_vm
from systemvm.ssvm.fetch.bucket_job import BucketJob
from systemvm.ssvm.fetch.cancellation import Cancellation, unless_cancelled
from systemvm.ssvm.fetch.mover_process import MoverProcess
from systemvm.ssvm.fetch.mover_spawner import MoverSpawner
from systemvm.ssvm.fetch.rate_shares import RateShares
from systemvm.ssvm.fetch.retry import RetryBudget
from systemvm.ssvm.fetch.source import DownloadSource
from systemvm.ssvm.fetch.source_id import source_id
from systemvm.ssvm.fetch.stored_source import Finder
from systemvm.ssvm.fetch.transfer_progress import TransferProgress
from systemvm.ssvm.limits import TransferLimits
from systemvm.ssvm.mover_messages import MoverJob, MoverProgress, MoverResult
from systemvm.wire.storage import DownloadRequest

#: A mover, which reads what strangers send, cannot have fetch open connections without end.
MIN_CONNECTION_INTERVAL_S = 0.5


class MoverSupervisor:
    """Runs one mover after another; `on_progress` gets their counts, `on_stall` a store that stands still."""

    _log = Logger(namespace="systemvm.ssvm.fetch.transfer")

    def __init__(
        self,
        reactor: Any,
        limits: TransferLimits,
        spawner: MoverSpawner,
        request: DownloadRequest,
        cancellation: Cancellation,
        progress: TransferProgress,
        budget: RetryBudget,
        rates: RateShares,
        on_progress: Callable[[MoverProgress], None],
        on_stall: Callable[[], None],
        bucket: BucketJob | None = None,
    ) -> None:
        self._reactor = reactor
        self._limits = limits
        self._spawner = spawner
        self.request = request  # with the newest link
        self._cancellation = cancellation
        self._progress = progress
        self._budget = budget
        self._rates = rates
        self._on_progress = on_progress
        self._on_stall = on_stall
        self._bucket = bucket  # that the image goes to
        self._mover: MoverProcess | None = None
        self.quota_bytes: int | None = None
        self.own_rate = request.rates.download_bytes_per_s
        self._source: DownloadSource | None = None  # of the connection that the mover has
        self._next_connection_s = 0.0

    async def run(self, finder: Finder, source: DownloadSource, directory: int) -> MoverResult:
        """Have a mover receive the image from `source`; `finder` finds it again when that breaks off."""
        size = "a file" if source.total_bytes is None else f"{source.total_bytes} bytes"
        self._progress.add_step(f"receives and checks {size} from {source.where}")
        bucket, connection = self._bucket, await self._connect(source)
        self._source = source
        with connection:
            self._cancellation.check_not_aborted()
            rate = self._rates.join(self.request.job_id, self.own_rate, lambda limit: mover.set_rate(limit))
            mover = self._mover = MoverProcess(
                self._reactor,
                self._spawner,
                evolve(
                    self._mover_job(source),
                    rate_bytes_per_s=rate,
                    pieces=source.pieces,
                    quota_bytes=self.quota_bytes,
                ),
                self._on_progress,
                lambda error: self._connection_broke(mover, finder, error),
                self._on_stall,
                lambda: self._add_connection(mover),
                None if bucket is None else lambda error: self._store_broke(mover, bucket, error),
            )
            try:
                return await mover.run(connection, directory)
            finally:
                self._rates.leave(self.request.job_id)
                self._cancellation.cancel()  # a new connection is of no use any more
                if bucket is not None:
                    bucket.cancel()
                if not self._cancellation.is_aborted:
                    await self._wait_until_gone(mover)
                    self._mover = None

    def kill(self, error: TransferError) -> bool:
        """Kill the mover; return whether there is one."""
        if self._mover is None:
            return False
        self._mover.kill(error)
        return True

    async def when_ended(self) -> None:
        """Wait until no mover has the job's files open, however long the kernel takes."""
        if self._mover is not None:
            await self._mover.when_ended()

    def _connection_broke(self, mover: MoverProcess, finder: Finder, error: TransferError) -> None:
        """Give the mover another connection, or kill it."""

        def failed(failure: Failure) -> None:
            mover.kill(self._as_transfer_error(failure.value))

        Deferred.fromCoroutine(self._reconnect(mover, finder, error)).addErrback(failed)

    def _store_broke(self, mover: MoverProcess, bucket: BucketJob, error: TransferError) -> None:
        """Give the mover another connection to its bucket, or kill it."""

        async def resume() -> None:
            self._log.info(
                "{job_id}: connects to its bucket again: {error}",
                job_id=self.request.job_id, error=str(error),
            )  # fmt: skip
            with await bucket.reconnect(error) as connection:
                if self._source is not None:
                    mover.resume_store(self._mover_job(self._source), connection)

        def failed(failure: Failure) -> None:
            mover.kill(self._as_transfer_error(failure.value))

        Deferred.fromCoroutine(resume()).addErrback(failed)

    async def _reconnect(self, mover: MoverProcess, finder: Finder, error: TransferError) -> None:
        """Find the source again, as signed redirects expire and addresses fail, and resume the mover."""
        while True:
            finder.note(error)
            delay_s = self._budget.next_delay_s(error) if error.code.is_retryable else None
            if delay_s is None:
                raise error
            self._progress.add_step(f"resumes in {delay_s:.0f} s: {error.message}", notify=True)
            self._log.info(
                "{job_id}: resumes in {delay_s} s: {error}",
                job_id=self.request.job_id, delay_s=round(delay_s, 1), error=str(error),
            )  # fmt: skip
            await self._cancellation.run(deferLater(self._reactor, delay_s))
            try:
                source = await self._cancellation.run(finder.find())
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
                job_id=self.request.job_id, why=failure.getErrorMessage(),
            )  # fmt: skip

        source.connect(self._reactor, self._limits).addCallbacks(opened, failed)

    def _mover_job(self, source: DownloadSource) -> MoverJob:
        request = self.request
        return MoverJob(
            job_id=request.job_id,
            host=source.url.host,
            authority=source.url.authority,
            target=source.url.target,
            is_tls=source.url.is_tls,
            format=request.format,
            max_size_bytes=request.max_size_bytes,
            checksum=source.checksum,
            source_ca_pem=source.ca_pem or request.source_ca_pem,
            announced_bytes=source.total_bytes,
            limits=self._limits,
            request_id=request.request_id,
            authorization=source.authorization,
            member_directory=source.member_directory,
            has_mirrors=source.has_mirrors,
            source_id="" if source.member_directory else source_id(request),
            object_target=None if self._bucket is None else self._bucket.target(source.total_bytes),
            is_file=source.is_file,
        )

    async def _connect(self, source: DownloadSource) -> Any:
        connecting = source.connect(self._reactor, self._limits)
        return await self._cancellation.run(unless_cancelled(connecting))

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

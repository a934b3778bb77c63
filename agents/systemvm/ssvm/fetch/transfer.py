# SPDX-License-Identifier: Apache-2.0
"""One download: finds the source, reserves what it needs, and has a mover write the image."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import evolve

from systemvm.ssvm import checksum, store_messages
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.address_policy import AddressPolicy
from systemvm.ssvm.fetch.bucket_job import BucketJob
from systemvm.ssvm.fetch.bucket_store import BucketStore
from systemvm.ssvm.fetch.cancellation import Cancellation
from systemvm.ssvm.fetch.gate_place import GatePlace
from systemvm.ssvm.fetch.job_gate import JobGate
from systemvm.ssvm.fetch.job_on_store import JobOnStore
from systemvm.ssvm.fetch.job_store import open_place
from systemvm.ssvm.fetch.mover_spawner import MoverSpawner
from systemvm.ssvm.fetch.mover_supervisor import MoverSupervisor
from systemvm.ssvm.fetch.pause import Pause
from systemvm.ssvm.fetch.quota_ledger import QuotaLedger
from systemvm.ssvm.fetch.rate_shares import RateShares
from systemvm.ssvm.fetch.redirects import HopObserver
from systemvm.ssvm.fetch.retry import RetryBudget
from systemvm.ssvm.fetch.source import DownloadSource, SourcePolicy
from systemvm.ssvm.fetch.source_finder import SourceFinder
from systemvm.ssvm.fetch.space_ledger import SpaceLedger
from systemvm.ssvm.fetch.store_connector import StoreConnector
from systemvm.ssvm.fetch.stored_source import FileFinder, Finder, ObjectFinder
from systemvm.ssvm.fetch.transfer_job import TransferJob
from systemvm.ssvm.fetch.transfer_progress import TransferProgress
from systemvm.ssvm.fetch_messages import MAX_CA_CHARACTERS, FetchStatus, StartRequest
from systemvm.ssvm.limits import TransferLimits
from systemvm.ssvm.mover_messages import MoverProgress, MoverResult
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.s3.endpoint import endpoint_of
from systemvm.ssvm.store_messages import JobDirectory, JobKey
from systemvm.wire.checksum import is_url
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.source_url import SourceUrl
from systemvm.wire.storage import DownloadRequest, ImageFormat, TransferRates
from systemvm.wire.transfer_failure import TransferFailure


class Transfer(TransferJob):
    """A download; `on_change` is called with each new status."""

    def __init__(
        self,
        reactor: Any,
        paths: Paths,
        limits: TransferLimits,
        spawner: MoverSpawner,
        gate: JobGate,
        space: SpaceLedger,
        rates: RateShares,
        quotas: QuotaLedger,
        start: StartRequest,
        buckets: BucketStore,
        on_change: Callable[[FetchStatus], None],
        reserve: Callable[[str, int], Awaitable[None]],
    ) -> None:
        """`reserve` takes bytes of the account's limit for a job in the whole zone."""
        request = start.download
        self._reserve = reserve
        self._reactor = reactor
        self._store_budgets: list[RetryBudget] = []
        self._limits = limits
        self._space = space
        self._rates = rates
        self._quotas = quotas
        self._request = request
        self._policy = _policy_of(start)
        self._mount_id = store_messages.mount_id(request.store)
        job = JobKey(self._mount_id, start.owner, request.job_id)
        self._paths = paths
        self._origin = start.origin
        self._buckets = buckets
        bucket = self._bucket_job(start.bucket, job)
        super().__init__(
            request.job_id,
            bucket or JobOnStore(reactor, paths, limits, job),
            TransferProgress(request.job_id, on_change),
            Cancellation(),
        )
        self._place = GatePlace(gate, self._progress, self._cancellation)
        self._budget = RetryBudget(limits, reactor.seconds)
        self._movers = MoverSupervisor(
            reactor,
            limits,
            spawner,
            request,
            self._cancellation,
            self._progress,
            self._budget,
            rates,
            self._progressed,
            lambda: self._place.store_stalls(True),
            bucket,
        )
        self._finder: Finder | None = None
        self._last_progress: MoverProgress | None = None
        self._pause = Pause(reactor)

    async def _move(self) -> MoverResult:
        """Download, and retry as the budget allows."""
        request = self._request
        self._log.info(
            "{job_id}: begins, template {template_id} (request {request_id})",
            job_id=request.job_id, template_id=request.template_id, request_id=request.request_id,
        )  # fmt: skip
        self._quotas.join(request.job_id, request.account_id, request.quota_bytes)
        return await self._download_with_retries()

    def _ended(self, moved: MoverResult | None) -> None:
        self._quotas.leave(self._job_id, 0 if moved is None else moved.size_bytes)

    def set_rates(self, rates: TransferRates) -> None:
        """Receive at this rate from now on."""
        self._movers.own_rate = rates.download_bytes_per_s
        self._rates.set_own(self._request.job_id, rates.download_bytes_per_s)

    def set_link(self, start: StartRequest) -> None:
        """Continue by this link to the same file, now if its SSVM was away; other URLs never change."""
        request, known = start.download, self._request
        if not _is_link(known) or not _is_link(request) or request.content_id != known.content_id:
            return
        if (request.url, request.source_ca_pem) != (known.url, known.source_ca_pem):
            self._request = self._movers.request = evolve(
                known,
                url=request.url,
                source_ca_pem=request.source_ca_pem,
                source_server=request.source_server,
            )
            self._policy = _policy_of(start)
            self._finder = None  # the next attempt has another one
        if self.state.status.waits_for_source:
            self._pause.end()

    def renew_keys(self, start: StartRequest) -> None:
        """Use the keys of the stores that are sent with a later request, from the next step on."""
        if start.bucket is not None and isinstance(self._store, BucketJob):
            self._store.renew_keys(start.bucket)
        origin = start.origin
        if origin is not None and origin.bucket is not None:
            self._origin = origin
            if isinstance(self._finder, ObjectFinder):
                self._finder.renew_keys(origin.bucket)

    def _kill_mover(self, error: TransferError) -> bool:
        return self._movers.kill(error)

    def _mover_ended(self) -> Awaitable[None]:
        return self._movers.when_ended()

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
            await self._cancellation.run(self._pause.begin(delay_s))
            if not self._progress.state.status.waits_for_source:
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
        delay_s = self._budget.next_delay_s(error)
        if delay_s is None and _is_link(self._request):
            # nobody else has the file, and the journal is worth the wait: the SSVM there can be repaired
            self._progress.wait_for_source(error.message)
            delay_s = self._limits.source_wait_s
        return delay_s

    async def _download(self) -> MoverResult:
        finder = self._check_request()
        self._progress.add_step("requests a directory on the store")
        # before the URL is used at all: is there a store?
        async with open_place(self._store, self._cancellation, self._progress) as place:
            try:
                return await self._move_when_admitted(finder, place.made, place.descriptor)
            finally:
                self._space.release(self._job_id)

    def _bucket_job(self, bucket: S3Bucket | None, job: JobKey) -> BucketJob | None:
        if bucket is None:
            return None
        return BucketJob(
            self._reactor, self._buckets, bucket, job, self._request, self._connector(bucket),
            is_copy=self._origin is not None,
        )  # fmt: skip

    def _connector(self, bucket: S3Bucket) -> StoreConnector:
        """Return what connects to a bucket: with a budget of its own, beside the source's."""
        budget = RetryBudget(self._limits, self._reactor.seconds)
        self._store_budgets.append(budget)
        return StoreConnector(self._reactor, endpoint_of(bucket), self._limits, budget, Cancellation())

    def _check_request(self) -> Finder:
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

    async def _move_when_admitted(self, finder: Finder, made: JobDirectory, directory: int) -> MoverResult:
        """Wait for a place in the gate; a job that waits for its store has none."""
        await self._place.enter()
        try:
            self._cancellation.check_not_aborted()
            source = await self._cancellation.run(finder.find())
            self._progress.stop_waiting_for_source()
            if await self._place.enter_as(source.total_bytes):
                source = await self._cancellation.run(finder.find())  # the first answer is old by now
            self._reserve_space(source, made)
            await self._cancellation.run(self._reserve_quota(source))
            self._movers.quota_bytes = self._quotas.left_for(self._request.job_id)
            return await self._movers.run(finder, source, directory)
        finally:
            self._place.leave()

    def _reserve_space(self, source: DownloadSource, made: JobDirectory) -> None:
        """Reserve space and quota before the first byte; a raw disk can fit by its holes.

        Raises: TransferError when store or account have no room beside what other downloads still need.
        """
        if source.total_bytes is None:
            return
        self._quotas.reserve(self._request.job_id, source.total_bytes)
        if self._request.format is ImageFormat.RAW:
            return
        self._space.reserve(
            self._request.job_id, self._mount_id, source.total_bytes, made.free_bytes, made.kept_bytes
        )

    async def _reserve_quota(self, source: DownloadSource) -> None:
        if source.total_bytes is not None and self._request.quota_bytes is not None:
            await self._reserve(self._request.job_id, source.total_bytes)

    def _make_finder(self) -> Finder:
        origin, digest = self._origin, self._request.checksum
        if origin is not None and origin.bucket is not None:
            connector = self._connector(origin.bucket)
            return ObjectFinder(self._buckets, origin.bucket, origin, digest, connector)
        if origin is not None:
            return FileFinder(self._reactor, self._paths, self._limits, origin, digest)

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

    def _progressed(self, progress: MoverProgress) -> None:
        if progress != self._last_progress:
            self._place.store_stalls(False)
        self._last_progress = progress
        if progress.received_bytes:
            for budget in (self._budget, *self._store_budgets):
                budget.note_progress(progress.received_bytes)
            self._rates.note(self._request.job_id, progress.received_bytes)
            self._space.note(self._request.job_id, progress.received_bytes)
        self._progress.update(progress)


def _policy_of(start: StartRequest) -> SourcePolicy:
    request = start.download
    return SourcePolicy(
        AddressPolicy.of_zone(((denied.cidr, denied.what) for denied in start.denied), start.opened),
        request.source_ca_pem,
        bool(request.checksum),
        request.access,
    )


def _is_link(request: DownloadRequest) -> bool:
    """Return whether the URL is a link of another SSVM of this cloud."""
    return request.source_server is not None and request.content_id is not None

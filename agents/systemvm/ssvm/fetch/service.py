# SPDX-License-Identifier: Apache-2.0
"""The methods of fetch on its socket: get or start a download, and stop one; and its reports to the agent."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from systemvm.guest.version import VERSION
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.service import slowness
from systemvm.ssvm import store_messages
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.bucket_store import BucketStore
from systemvm.ssvm.fetch.job_gate import JobGate
from systemvm.ssvm.fetch.mover_parking import MoverParking
from systemvm.ssvm.fetch.mover_spawner import MoverSpawner
from systemvm.ssvm.fetch.quota_ledger import QuotaLedger
from systemvm.ssvm.fetch.rate_shares import INTERVAL_S, RateShares
from systemvm.ssvm.fetch.space_ledger import SpaceLedger
from systemvm.ssvm.fetch.transfer import Transfer
from systemvm.ssvm.fetch.transfer_job import TransferJob
from systemvm.ssvm.fetch.upload_port import BodyConnection
from systemvm.ssvm.fetch.upload_transfer import UploadTransfer
from systemvm.ssvm.fetch_messages import (
    BUCKET,
    FINISHED,
    HELLO,
    PROGRESS,
    RESERVE,
    START,
    STOP,
    BucketCall,
    FetchHello,
    FetchStatus,
    StartRequest,
)
from systemvm.ssvm.limits import DEFAULT, TransferLimits
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.upload_messages import (
    START_UPLOAD,
    UploadAnswer,
    UploadCall,
    UploadOrder,
    UploadRefusal,
)
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import DownloadAbort, QuotaReservation
from systemvm.wire.transfer_failure import TransferFailure
from systemvm.wire.upload import MAX_UPLOADS

AGENT = Caller("agent", "agent")
REMEMBERED_JOBS = 256
FINISHED_DEADLINE_S = 30.0
RESERVE_DEADLINE_S = 10.0
BUCKET_DEADLINE_S = 600.0


class FetchService:
    """All jobs of this process; ended ones are remembered, so that a late call still gets their status."""

    def __init__(self, reactor: Any, paths: Paths, limits: TransferLimits = DEFAULT) -> None:
        self._reactor = reactor
        self._paths = paths
        self._limits = limits
        self._spawner = MoverSpawner(reactor)
        self._gate = JobGate(reactor, limits.max_active_jobs, initial=limits.initial_active_jobs)
        self._space = SpaceLedger()
        self._rates = RateShares()
        self._quotas = QuotaLedger()
        self._rebalancing = LoopingCall(self._rebalance)
        self._rebalancing.clock = reactor
        self._parking = MoverParking(reactor)
        self._buckets = BucketStore(reactor, limits)
        self._instance = str(uuid.uuid4())
        self._jobs: dict[str, TransferJob] = {}
        self._running: dict[str, Deferred[None]] = {}
        self._ending: dict[str, TransferJob] = {}  # aborted, and not yet removed from a store that hangs
        self._peers: set[Peer] = set()
        self._log = Logger(namespace="systemvm.ssvm.fetch.main")
        self.methods = self._table()

    def _table(self) -> MethodTable:
        methods = MethodTable("systemvm fetch", VERSION)
        roles = frozenset({AGENT.role})
        methods.add(HELLO, self.hello, params=None, result=FetchHello, roles=roles)
        methods.add(START, self.start, params=StartRequest, result=FetchStatus, roles=roles)
        methods.add(START_UPLOAD, self.start_upload, params=UploadOrder, result=FetchStatus, roles=roles)
        methods.add(
            BUCKET, self.bucket, params=BucketCall, result=Any, roles=roles, deadline_s=BUCKET_DEADLINE_S
        )
        methods.add(STOP, self.stop, params=DownloadAbort, result=Acknowledgement, roles=roles)
        return methods

    def authorize(self, uid: int, gid: int, pid: int) -> Caller | None:
        """Accept every caller as the agent: owner and mode of the socket admit nobody else.

        A uid proves nothing here: in the user namespace of the unit, the agent's is that of nobody.
        """
        return AGENT

    def warm_up(self) -> None:
        """Start the fork server now, as the first download would wait for it."""
        try:
            self._spawner.warm_up()
        except OSError as error:
            self._log.warn("The fork server of the movers cannot be started yet: {error}", error=str(error))

    def connected(self, peer: Peer) -> None:
        self._peers.add(peer)

    def lost(self, peer: Peer, why: str) -> None:
        self._peers.discard(peer)

    async def hello(self, call: Call, params: None) -> FetchHello:
        transferred = [job_id for job_id, job in self._jobs.items() if job.state.moved is not None]
        return FetchHello(self._instance, sorted({*self._running, *transferred}))

    async def start(self, call: Call, start: StartRequest) -> FetchStatus:
        """Return the status of a job; start it when its id is new. The newest rates and link always count."""
        rates = start.download.rates
        self._rates.set_total(rates.total_bytes_per_s)
        known = self._jobs.get(start.download.job_id)
        if isinstance(known, Transfer):
            known.set_rates(rates)
            known.set_link(start)
            known.renew_keys(start)
        if rates.total_bytes_per_s is not None and not self._rebalancing.running:
            self._rebalancing.start(INTERVAL_S, now=False)

        def make(limits: TransferLimits) -> TransferJob:
            self._check_capacity()
            return Transfer(
                self._reactor,
                self._paths,
                limits,
                self._spawner,
                self._gate,
                self._space,
                self._rates,
                self._quotas,
                start,
                self._buckets,
                self._changed,
                self._reserve,
            )

        try:
            return self._get_or_start(start.download.job_id, start.owner, make)
        except ValueError as error:
            raise RpcError.refused(
                TransferFailure.REQUEST_INVALID, f"a denied network is not a CIDR: {error}"
            ) from None

    async def start_upload(self, call: Call, order: UploadOrder) -> FetchStatus:
        """Return the status of an upload; let its client come when its id is new. The last expiry counts."""
        known = self._jobs.get(order.job_id)
        if isinstance(known, UploadTransfer):
            known.renew(order.expires_unix_s)
            known.renew_keys(order.bucket)
        if order.store.s3 is not None and order.bucket is None:
            raise RpcError.refused(TransferFailure.REQUEST_INVALID, "order of an upload has no keys")

        def make(limits: TransferLimits) -> TransferJob:
            waiting = sum(isinstance(self._jobs[job_id], UploadTransfer) for job_id in self._running)
            if waiting >= MAX_UPLOADS:
                hint = f"wait: {waiting} uploads have not ended"
                raise RpcError.refused(TransferFailure.BUSY, "this SSVM is busy", hint)
            return UploadTransfer(
                self._reactor,
                self._paths,
                limits,
                self._spawner,
                self._gate,
                self._space,
                self._parking,
                order,
                self._buckets,
                self._changed,
                self._reserve,
            )

        return self._get_or_start(order.job_id, order.owner, make)

    async def serve_upload(self, call: UploadCall, client: BodyConnection) -> None:
        """Answer what serve asks for a client."""
        job = self._jobs.get(call.job_id)
        if isinstance(job, UploadTransfer):
            await job.serve(call, client)
        else:
            client.answer(UploadAnswer(UploadRefusal.UNKNOWN))

    def _get_or_start(
        self, job_id: str, owner: str, make: Callable[[TransferLimits], TransferJob]
    ) -> FetchStatus:
        known = self._jobs.get(job_id)
        if known is not None:
            return known.state
        left = self._ending.get(job_id)
        if left is not None and left.is_cleaning_up:
            hint = "wait until its store answers again"
            raise RpcError.refused(
                TransferFailure.BUSY, "an earlier download of this job is being removed", hint
            )
        try:
            store_messages.require_name(job_id)
            store_messages.require_name(owner)
            job = make(self._limits.scaled(slowness.METER.snapshot().slowdown))
        except TransferError as error:
            raise error.to_rpc() from None
        self._forget_oldest()
        self._jobs[job_id] = job
        running = Deferred.fromCoroutine(job.run())
        if not running.called:
            self._running[job_id] = running
        running.addBoth(self._ended, job_id)
        return job.state

    async def bucket(self, call: Call, order: BucketCall) -> Any:
        """Run an operation on a store that is a bucket."""
        try:
            return await self._buckets.call(order.bucket, order.method, order.params)
        except TransferError as error:
            raise error.to_rpc() from None

    async def stop(self, call: Call, abort: DownloadAbort) -> Acknowledgement:
        """Stop a job and forget it; what is left on a store that hangs is removed once it answers."""
        transfer, running = self._jobs.get(abort.job_id), self._running.get(abort.job_id)
        if transfer is not None and running is not None:
            transfer.abort()
            ended: Deferred[None] = Deferred()
            running.addCallback(lambda _: ended.callback(None))
            await ended
        self._jobs.pop(abort.job_id, None)
        self._ending = {job_id: job for job_id, job in self._ending.items() if job.is_cleaning_up}
        if transfer is not None and transfer.is_cleaning_up:
            self._ending[abort.job_id] = transfer
        return Acknowledgement()

    async def close(self) -> None:
        """Stop all jobs; the agent has the next fetch continue them."""
        for job_id in list(self._running):
            self._jobs[job_id].suspend()

    def _rebalance(self) -> None:
        if self._rates.is_shared:
            self._rates.rebalance(INTERVAL_S)
        elif not self._running:
            self._rebalancing.stop()

    def _check_capacity(self) -> None:
        """Check that there is a place for another job.

        Raises: RpcError `busy`; jobs that wait for their store, source or turn do not count as active.
        """
        running = [self._jobs[job_id] for job_id in self._running]
        downloads = [job for job in running if not isinstance(job, UploadTransfer)]
        statuses = [job.state.status for job in downloads]
        waiting = sum(each.needs_no_slot for each in statuses)
        active = len(downloads) - waiting
        if active >= self._limits.max_active_jobs or len(downloads) >= self._limits.max_jobs:
            hint = f"wait: {active} downloads run and {waiting} wait for their store, source or turn"
            raise RpcError.refused(TransferFailure.BUSY, "this SSVM is busy", hint)

    def _ended(self, outcome: object, job_id: str) -> None:
        self._running.pop(job_id, None)

    def _changed(self, state: FetchStatus) -> None:
        for peer in list(self._peers):
            if state.ended:
                Deferred.fromCoroutine(self._report_end(peer, state))
            else:
                peer.notify(PROGRESS, state.status, replaces=f"{PROGRESS} {state.status.job_id}")

    async def _reserve(self, job_id: str, size_bytes: int) -> None:
        """Reserve the size of an image in the daemon's database, where jobs of other SSVMs reserve, too.

        When nobody can be asked now the job goes on: the agent reserves again before it publishes.

        Raises: TransferError `quota_exceeded` when the account has not as much left.
        """
        for peer in list(self._peers):
            try:
                await peer.call(
                    RESERVE,
                    QuotaReservation(job_id, size_bytes),
                    result=Acknowledgement,
                    deadline_s=RESERVE_DEADLINE_S,
                )
            except RpcError as error:
                if error.reason == TransferFailure.QUOTA_EXCEEDED.value:
                    raise TransferError.from_rpc(error) from None
                self._log.info("{job_id}: nothing is reserved yet: {error}", job_id=job_id, error=str(error))

    async def _report_end(self, peer: Peer, state: FetchStatus) -> None:
        try:
            await peer.call(FINISHED, state, result=Acknowledgement, deadline_s=FINISHED_DEADLINE_S)
        except RpcError as error:
            # not lost: an agent calls again for each of its jobs when it connects
            job_id = state.status.job_id
            self._log.info(
                "{job_id}: its end could not be reported: {error}", job_id=job_id, error=str(error)
            )

    def _forget_oldest(self) -> None:
        ended = [job_id for job_id in self._jobs if job_id not in self._running]
        for job_id in ended[: max(0, len(ended) - REMEMBERED_JOBS)]:
            del self._jobs[job_id]

# SPDX-License-Identifier: Apache-2.0
"""One download: where from, over which connection, and what a mover makes of it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from attrs import evolve, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.rpc.core.errors import RpcError
from systemvm.service.scaled_timer import add_scaled_timeout
from systemvm.ssvm import checksum, helper_client, store_messages
from systemvm.ssvm.failure import TransferError, of_this_vm
from systemvm.ssvm.fetch.address_policy import Address, AddressPolicy
from systemvm.ssvm.fetch.connect import open_connection
from systemvm.ssvm.fetch.job_gate import JobGate
from systemvm.ssvm.fetch.mover_process import MoverProcess
from systemvm.ssvm.fetch.mover_spawner import MoverSpawner
from systemvm.ssvm.fetch.probe import probe
from systemvm.ssvm.fetch.resolve import resolve
from systemvm.ssvm.fetch.retry import RetryBudget
from systemvm.ssvm.fetch_messages import MAX_CA_CHARACTERS, FetchStatus, StartRequest
from systemvm.ssvm.limits import TransferLimits
from systemvm.ssvm.mover_messages import MoverJob, MoverProgress, MoverResult
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.store_messages import JobKey
from systemvm.ssvm.store_retry import retry_transient_errors
from systemvm.wire import source_url
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.source_url import SourceUrl, SourceUrlError
from systemvm.wire.storage import DownloadState, DownloadStatus, DownloadStep
from systemvm.wire.transfer_failure import TransferFailure

MAX_STEPS = 60
T = TypeVar("T")


@frozen
class DownloadSource:
    """Where the bytes are, after all redirects: one address, and how many there should be."""

    url: SourceUrl
    address: Address
    total_bytes: int | None


class Transfer:
    """A job; `state` is what there is to say of it at any time, `on_change` hears of every new one."""

    def __init__(
        self,
        reactor: Any,
        paths: Paths,
        limits: TransferLimits,
        children: MoverSpawner,
        gate: JobGate,
        start: StartRequest,
        on_change: Callable[[FetchStatus], None],
    ) -> None:
        self._reactor = reactor
        self._paths = paths
        self._limits = limits
        self._children = children
        self._gate = gate
        self._request = start.download
        self._policy = AddressPolicy.of_zone((denied.cidr, denied.what) for denied in start.denied)
        self._job = JobKey(store_messages.mount_id(start.download.store), start.owner, start.download.job_id)
        self._on_change = on_change
        self._log = Logger(namespace="systemvm.ssvm.fetch.transfer")
        self._aborted = False
        self._cancellable: Deferred[Any] | None = None
        self._mover: MoverProcess | None = None
        self._budget = RetryBudget(limits, reactor.seconds)
        self._has_begun = False  # a byte of the body has come once
        self._lost_before_begin = False
        self._worker_deaths = 0
        self.state = FetchStatus(DownloadStatus(start.download.job_id, DownloadState.DOWNLOAD_IN_PROGRESS))

    async def run(self) -> None:
        """Do all of it; the outcome is in `state`."""
        request = self._request
        self._log.info(
            "{job_id}: begins, template {template_id} (request {request_id})",
            job_id=request.job_id, template_id=request.template_id, request_id=request.request_id,
        )  # fmt: skip
        try:
            moved = await self._download_until_done()
        except TransferError as error:
            await self._fail(error)
        except RpcError as error:
            await self._fail(TransferError.from_rpc(error))
        except Exception as error:
            self._log.failure("{job_id}: broke down", job_id=request.job_id)
            await self._fail(of_this_vm(error))
        else:
            self._log.info("{job_id}: brought {size} bytes", job_id=request.job_id, size=moved.received_bytes)
            status = evolve(
                self.state.status, received_bytes=moved.received_bytes, total_bytes=moved.received_bytes
            )
            self._change(FetchStatus(status, moved))

    def abort(self) -> None:
        """Stop as soon as may be; the job then fails with `aborted`."""
        self._aborted = True
        if self._mover is not None:
            self._mover.kill(_aborted())
        elif self._cancellable is not None:
            self._cancellable.cancel()

    async def _download_until_done(self) -> MoverResult:
        """Begin again, within the budget, after what says nothing of the image or of a store's refusal."""
        while True:
            try:
                return await self._download()
            except TransferError as error:
                delay_s = self._delay_before_restart(error)
                if delay_s is None:
                    raise
                self._step(f"begins again in {delay_s:.0f} s: {error.message}")
                self._on_change(self.state)
                self._log.warn(
                    "{job_id}: begins again: {error}", job_id=self._request.job_id, error=str(error)
                )
            await self._stoppable(deferLater(self._reactor, delay_s))
            self._change(FetchStatus(evolve(self.state.status, received_bytes=0, total_bytes=None)))

    def _delay_before_restart(self, error: TransferError) -> float | None:
        """Seconds until the job may begin again; None when `error` is its end."""
        if self._aborted:
            return None
        if error.code is TransferFailure.WORKER_DIED:
            self._worker_deaths += 1
            return 0.0 if self._worker_deaths <= 1 else None
        if not self._has_begun:
            # too late for a source that does not wait for its request, or a URL that leads nowhere
            if error.code is not TransferFailure.CONNECTION_LOST or self._lost_before_begin:
                return None
            self._lost_before_begin = True
            return 0.0
        if (
            not (error.code.is_retryable or error.code is TransferFailure.SOURCE_CHANGED)
            or not self._budget.restart()
        ):
            return None
        return self._budget.next_delay_s()

    async def _download(self) -> MoverResult:
        request = self._request
        checksum.parse(request.checksum)
        if request.source_ca_pem and len(request.source_ca_pem) > MAX_CA_CHARACTERS:
            raise TransferError(
                TransferFailure.REQUEST_INVALID,
                f"the source CA is longer than {MAX_CA_CHARACTERS} characters",
            )
        try:
            first = source_url.parse(request.url)
        except SourceUrlError as error:
            raise TransferError.of_url(error) from None
        self._step("asks the store for a place")
        # before anything is asked of the world: is there a store?
        _, descriptors = await self._stoppable(
            retry_transient_errors(
                self._reactor,
                lambda: self._ask_store(store_messages.MAKE),
                what=f"{request.job_id}: store.make",
                is_wanted=lambda: not self._aborted,
                on_wait=lambda error: self._wait_for_store(),
            )
        )
        if self.state.status.waits_for_store:
            self._change(FetchStatus(evolve(self.state.status, waits_for_store=False)))
        try:
            self._require_going()
            if len(descriptors) != 1:
                raise TransferError(TransferFailure.STORE_FAILED, "the store's helper made no directory")
            return await self._move_in_turn(first, descriptors[0])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _wait_for_store(self) -> None:
        """It counts as waiting from the first call that came to nothing; the others have its place."""
        self._step("waits for the store, which is busy or does not answer")
        self._change(FetchStatus(evolve(self.state.status, waits_for_store=True)))

    async def _move_in_turn(self, first: SourceUrl, directory: int) -> MoverResult:
        """Wait until the machine has time for one more; one that waits for its store takes no turn."""
        if self._gate.is_full:
            self._step("waits for its turn: other downloads take what this machine has time for")
        await self._stoppable(self._gate.enter())
        try:
            self._require_going()
            return await self._move(first, directory)
        finally:
            self._gate.leave()

    async def _move(self, first: SourceUrl, directory: int) -> MoverResult:
        source = await self._stoppable(self._find(first))
        size = "a file" if source.total_bytes is None else f"{source.total_bytes} bytes"
        self._step(f"receives {size} from {source.url.origin} at {source.address} and checks them")
        opened = self._in_thread(
            open_connection, source.address, source.url.port, self._limits.connect_timeout_s
        )
        connection: socket.socket = await opened
        with connection:
            self._require_going()
            job = self._mover_job(source)
            mover = self._mover = MoverProcess(
                self._reactor,
                self._children,
                job,
                self._progressed,
                lambda error: self._broken(mover, first, error),
            )
            try:
                return await mover.run(connection, directory)
            finally:
                if self._cancellable is not None:
                    self._cancellable.cancel()  # nobody waits for another connection any more
                await self._ended(mover)
                self._mover = None

    def _broken(self, mover: MoverProcess, first: SourceUrl, error: TransferError) -> None:
        """The mover's connection broke off: get it another one, or end it."""

        def failed(failure: Failure) -> None:
            mover.kill(_as_transfer_error(failure.value))

        Deferred.fromCoroutine(self._reconnect(mover, first, error)).addErrback(failed)

    async def _reconnect(self, mover: MoverProcess, first: SourceUrl, error: TransferError) -> None:
        """Find the source anew, as signed redirects expire and addresses fail; TransferError in the end."""
        while True:
            delay_s = self._budget.next_delay_s()
            if delay_s is None or not error.code.is_retryable:
                raise error
            self._step(f"goes on in {delay_s:.0f} s: {error.message}")
            self._on_change(self.state)
            self._log.info(
                "{job_id}: goes on in {delay_s} s: {error}",
                job_id=self._request.job_id, delay_s=round(delay_s, 1), error=str(error),
            )  # fmt: skip
            await self._stoppable(deferLater(self._reactor, delay_s))
            try:
                source = await self._stoppable(self._find(first))
                opened = self._in_thread(
                    open_connection, source.address, source.url.port, self._limits.connect_timeout_s
                )
                connection: socket.socket = await opened
            except TransferError as failed:
                error = failed
                continue
            with connection:
                mover.resume(self._mover_job(source), connection)
            return

    async def _find(self, first: SourceUrl) -> DownloadSource:
        """Follow redirects, each hop judged like the first."""
        here, hops = first, 0
        while True:
            self._step(f"asks {here.origin}")
            addresses = await resolve(self._reactor, here, self._policy, self._limits)
            probed = await probe(self._reactor, here, addresses, self._request.source_ca_pem, self._limits)
            if probed.redirect is None:
                return DownloadSource(here, probed.address, probed.total_bytes)
            hops += 1
            if hops > self._limits.max_redirects:
                raise TransferError(
                    TransferFailure.REDIRECTS,
                    f"the URL redirects more than {self._limits.max_redirects} times",
                    "check the URL",
                )
            if here.is_tls and not probed.redirect.is_tls and not self._request.checksum:
                raise TransferError(
                    TransferFailure.REDIRECTS,
                    "the URL redirects from https to http",
                    "give a checksum: without one nobody could tell a forged image from the real one",
                )
            self._log.info(
                "{job_id}: {origin} redirects to {target}",
                job_id=self._request.job_id, origin=here.origin, target=probed.redirect.origin,
            )  # fmt: skip
            here = probed.redirect

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
            checksum=request.checksum,
            source_ca_pem=request.source_ca_pem,
            announced_bytes=source.total_bytes,
            limits=self._limits,
            request_id=request.request_id,
        )

    def _progressed(self, progress: MoverProgress) -> None:
        if progress.received_bytes:
            self._has_begun = True
            self._budget.note_progress(progress.received_bytes)
        known = self.state.status
        if progress.received_bytes != known.received_bytes or progress.total_bytes != known.total_bytes:
            status = evolve(known, received_bytes=progress.received_bytes, total_bytes=progress.total_bytes)
            self._change(FetchStatus(status))

    def _step(self, text: str) -> None:
        """Where it has come to, for who asks later; told with the next news."""
        status = self.state.status
        if status.steps and status.steps[-1].text == text:
            return
        steps = [*status.steps, DownloadStep(text, time.time())]
        if len(steps) > MAX_STEPS:  # how it began and how it ends; a source may break off for days
            del steps[MAX_STEPS // 2]
        self.state = FetchStatus(evolve(status, steps=steps))

    def _change(self, state: FetchStatus) -> None:
        self.state = state
        self._on_change(state)

    async def _fail(self, error: TransferError) -> None:
        if self._aborted:
            error = _aborted()
        self._log.info(
            "{job_id}: failed, {code}: {message}",
            job_id=self._request.job_id, code=error.code.value, message=error.message,
        )  # fmt: skip
        # first nothing is left on the store, then it is said: whoever hears of the end may rely on that
        try:
            await self._ask_store(store_messages.DISCARD)
        except RpcError as left:
            self._log.warn(
                "{job_id}: its directory is still there: {error}",
                job_id=self._request.job_id,
                error=str(left),
            )
        failed = evolve(
            self.state.status,
            state=DownloadState.DOWNLOAD_ERROR,
            error=error.to_download_error(),
            waits_for_store=False,
        )
        self._change(FetchStatus(failed))

    async def _ask_store(self, method: str) -> tuple[Acknowledgement, list[int]]:
        return await helper_client.call(
            self._reactor,
            self._paths.store_socket,
            method,
            self._job,
            Acknowledgement,
            self._limits.store_timeout_s,
        )

    def _in_thread(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Not cancelled half-way: what it opened has to come back to be closed."""
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *arguments)

    async def _stoppable(self, step: Any) -> Any:
        self._cancellable = step if isinstance(step, Deferred) else Deferred.fromCoroutine(step)
        try:
            return await self._cancellable
        except CancelledError:
            raise _aborted() from None
        finally:
            self._cancellable = None

    async def _ended(self, mover: MoverProcess) -> None:
        """Wait until it is gone; one that hangs in the kernel does not hold the job up for ever."""
        waiting = add_scaled_timeout(mover.when_ended(), self._limits.store_timeout_s, self._reactor)
        with suppress(Exception):
            await waiting

    def _require_going(self) -> None:
        if self._aborted:
            raise _aborted()


def _as_transfer_error(error: BaseException | None) -> TransferError:
    if isinstance(error, TransferError):
        return error
    Logger(namespace="systemvm.ssvm.fetch.transfer").error("fetch broke down: {error!r}", error=error)
    return of_this_vm(error)


def _aborted() -> TransferError:
    return TransferError(TransferFailure.ABORTED, "the download was aborted")

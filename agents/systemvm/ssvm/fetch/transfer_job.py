# SPDX-License-Identifier: Apache-2.0
"""What a download and an upload have in common: how a job of fetch ends, and what it leaves on its store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable

from twisted.logger import Logger

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.failure import TransferError, of_this_vm
from systemvm.ssvm.fetch.cancellation import Cancellation, aborted_error
from systemvm.ssvm.fetch.job_store import JobStore
from systemvm.ssvm.fetch.transfer_progress import TransferProgress
from systemvm.ssvm.fetch_messages import FetchStatus
from systemvm.ssvm.mover_messages import MoverResult

#: How long an abort waits for the store: somebody waits for its answer.
ABORT_WAIT_S = 0.5


class TransferJob(ABC):
    """A job of fetch; `state` is its status at any time."""

    _log = Logger(namespace="systemvm.ssvm.fetch.transfer")

    def __init__(
        self, job_id: str, store: JobStore, progress: TransferProgress, cancellation: Cancellation
    ) -> None:
        self._job_id = job_id
        self._store = store
        self._progress = progress
        self._cancellation = cancellation
        self._is_suspended = False

    @property
    def state(self) -> FetchStatus:
        return self._progress.state

    @property
    def is_cleaning_up(self) -> bool:
        """Whether something of the job can still be on the store, after it has ended."""
        return self._store.is_cleaning_up

    async def run(self) -> None:
        """Do all of the work; the outcome is in `state`."""
        moved: MoverResult | None = None
        try:
            moved = await self._move()
        except TransferError as error:
            await self._fail(error)
        except RpcError as error:
            await self._fail(TransferError.from_rpc(error))
        except Exception as error:
            self._log.failure("{job_id}: unexpected failure", job_id=self._job_id)
            await self._fail(of_this_vm(error))
        else:
            self._log.info("{job_id}: received {size} bytes", job_id=self._job_id, size=moved.received_bytes)
            self._progress.complete(moved)
        finally:
            self._ended(moved)

    def abort(self) -> None:
        """Stop as soon as possible; the job then fails with `aborted`."""
        self._cancellation.abort()
        if not self._kill_mover(aborted_error()):
            self._cancellation.cancel()

    def suspend(self) -> None:
        """Stop without an outcome: what is on the store stays, and the next fetch continues there."""
        self._is_suspended = True
        self.abort()

    @abstractmethod
    async def _move(self) -> MoverResult:
        """Bring the whole image to the directory of the job.

        Raises: TransferError or RpcError when that fails for good.
        """

    @abstractmethod
    def _kill_mover(self, error: TransferError) -> bool:
        """Kill the mover, which then fails with `error`; return whether there is one."""

    @abstractmethod
    def _mover_ended(self) -> Awaitable[None]:
        """Wait until no mover has the job's files open, however long the kernel takes."""

    @abstractmethod
    def _ended(self, moved: MoverResult | None) -> None:
        """Give back what the job has taken; `moved` is None when it has failed."""

    async def _fail(self, error: TransferError) -> None:
        if self._is_suspended:
            return
        if self._cancellation.is_aborted:
            error = aborted_error()
        self._log.info(
            "{job_id}: failed, {code}: {message}",
            job_id=self._job_id, code=error.code.value, message=error.message,
        )  # fmt: skip
        # before the failure is reported: whoever receives it relies on a store without leftovers; but who
        # aborts does not wait for a store that hangs
        await self._store.remove(
            self._mover_ended(),
            lambda: not self._is_suspended,
            ABORT_WAIT_S if self._cancellation.is_aborted else None,
        )
        self._progress.fail(error)

# SPDX-License-Identifier: Apache-2.0
"""Where a job writes, whatever kind of store it is on: `JobOnStore` or `BucketJob`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from attrs import frozen

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.cancellation import Cancellation
from systemvm.ssvm.fetch.transfer_progress import TransferProgress
from systemvm.ssvm.store_messages import JobDirectory
from systemvm.wire.transfer_failure import TransferFailure


class JobStore(Protocol):
    """The place of one job."""

    @property
    def is_cleaning_up(self) -> bool: ...

    async def make(
        self, is_wanted: Callable[[], bool], on_wait: Callable[[], None]
    ) -> tuple[JobDirectory, list[int]]:
        """Return what a mover writes to, as a descriptor that the caller must close."""

    async def remove(
        self, writer_ended: Awaitable[None], is_wanted: Callable[[], bool], at_most_s: float | None
    ) -> None:
        """Remove everything after the writer has ended; return after `at_most_s` even when that hangs."""


@frozen
class OpenPlace:
    """What the job has there, and its descriptor."""

    made: JobDirectory
    descriptor: int


@asynccontextmanager
async def open_place(
    store: JobStore, cancellation: Cancellation, progress: TransferProgress
) -> AsyncIterator[OpenPlace]:
    """Make the place of a job, or find it with what it has; wait for a store that is late.

    Raises: TransferError when there is none, or the job was aborted.
    """
    cancellation.check_not_aborted()
    try:
        made, descriptors = await cancellation.run(
            store.make(lambda: not cancellation.is_aborted, progress.wait_for_store)
        )
    except RpcError as error:
        raise TransferError.from_rpc(error) from None
    progress.stop_waiting_for_store()
    try:
        cancellation.check_not_aborted()
        if len(descriptors) != 1:
            raise TransferError(TransferFailure.STORE_FAILED, "store helper returned no directory")
        yield OpenPlace(made, descriptors[0])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)

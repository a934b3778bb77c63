# SPDX-License-Identifier: Apache-2.0
"""The directory of one job on its store: made before the first byte, removed when the job has failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from twisted.logger import Logger

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm import helper_client, store_messages
from systemvm.ssvm.fetch.removal import Removal
from systemvm.ssvm.limits import TransferLimits
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.store_messages import JobDirectory, JobKey
from systemvm.ssvm.store_retry import retry_transient_errors
from systemvm.wire.acknowledgement import Acknowledgement


class JobOnStore:
    """Calls the store helper for one job, and repeats a call that was only late or refused as busy."""

    _log = Logger(namespace="systemvm.ssvm.fetch.transfer")

    def __init__(self, reactor: Any, paths: Paths, limits: TransferLimits, key: JobKey) -> None:
        self._reactor = reactor
        self._paths = paths
        self._limits = limits
        self._key = key
        self._removal = Removal(reactor)

    @property
    def is_cleaning_up(self) -> bool:
        """Whether something of the job can still be on the store, after it has ended."""
        return self._removal.is_running

    async def make(
        self, is_wanted: Callable[[], bool], on_wait: Callable[[], None]
    ) -> tuple[JobDirectory, list[int]]:
        """Return the job's directory, and descriptors that the caller must close."""
        return await retry_transient_errors(
            self._reactor,
            lambda: self._call(store_messages.MAKE, JobDirectory),
            what=f"{self._key.job_id}: store.make",
            is_wanted=is_wanted,
            on_wait=lambda error: on_wait(),
        )

    async def remove(
        self, writer_ended: Awaitable[None], is_wanted: Callable[[], bool], at_most_s: float | None
    ) -> None:
        """Remove the directory after its writer has ended; return after `at_most_s` even when it hangs."""
        await self._removal.run(self._discard(writer_ended, is_wanted), at_most_s)

    async def _discard(self, writer_ended: Awaitable[None], is_wanted: Callable[[], bool]) -> None:
        await writer_ended
        try:
            await retry_transient_errors(
                self._reactor,
                lambda: self._call(store_messages.DISCARD),
                what=f"{self._key.job_id}: store.discard",
                is_wanted=is_wanted,
            )
        except RpcError as left:
            self._log.warn(
                "{job_id}: its directory could not be removed: {error}",
                job_id=self._key.job_id,
                error=str(left),
            )

    def _call(self, method: str, result: Any = Acknowledgement) -> Coroutine[Any, Any, tuple[Any, list[int]]]:
        return helper_client.call(
            self._reactor, self._paths.store_socket, method, self._key, result, self._limits.store_timeout_s
        )

# SPDX-License-Identifier: Apache-2.0
"""A mover without a process, and a client of an upload without a connection: a test says what they do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from twisted.internet.defer import Deferred

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.mover_messages import MoverJob, MoverProgress, MoverResult
from systemvm.ssvm.upload_messages import UploadAnswer
from systemvm.wire.transfer_failure import TransferFailure


class ScriptedMover:
    """Has the interface of MoverProcess; `movers`, in the place of a spawner, gets each one that is made."""

    def __init__(
        self,
        reactor: Any,
        movers: list[ScriptedMover],
        job: MoverJob,
        on_progress: Callable[[MoverProgress], None],
        on_wait: Callable[[TransferError], None],
        on_stall: Callable[[], None],
        *,
        on_store_broken: Callable[[TransferError], None] | None = None,
    ) -> None:
        movers.append(self)
        self.job = job
        self.stalls = on_stall
        self.store_breaks = on_store_broken
        self.bodies: list[MoverJob] = []
        self.is_killed = False
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._result: Deferred[MoverResult] = Deferred()
        self._ended: Deferred[None] = Deferred()

    async def run(self, source: Any, directory: int) -> MoverResult:
        return await self._result

    def resume(self, job: MoverJob, connection: Any) -> None:
        self.bodies.append(job)

    def kill(self, error: TransferError) -> None:
        self.is_killed = True
        self.fails(error)

    def when_ended(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        self._ended.addCallback(lambda _: waiter.callback(None))
        return waiter

    # ---- what a test has it do -----------------------------------------------------------------------------

    def receives(self, received_bytes: int) -> None:
        self._on_progress(MoverProgress(received_bytes, None, received_bytes))

    def waits(
        self, received_bytes: int = 0, code: TransferFailure = TransferFailure.TRUNCATED, why: str = "waits"
    ) -> None:
        """Wait for a body behind these bytes."""
        self.receives(received_bytes)
        self._on_wait(TransferError(code, why))

    def succeeds(self, size_bytes: int) -> None:
        self._end()
        self._result.callback(MoverResult("{SHA-512}00", size_bytes, size_bytes, size_bytes))

    def fails(self, error: Exception) -> None:
        self._end()
        if not self._result.called:
            self._result.errback(error)

    def _end(self) -> None:
        if not self._ended.called:
            self._ended.callback(None)


class ScriptedClient:
    """Has the interface of BodyConnection, and keeps what it is answered."""

    def __init__(self) -> None:
        self.answers: list[UploadAnswer] = []
        self.accepted: UploadAnswer | None = None
        self.is_lost = False
        self.is_broken_off = False
        self._on_lost: Callable[[], None] | None = None

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        self._on_lost = callback

    def accept(self, answer: UploadAnswer) -> AbstractContextManager[Any]:
        self._on_lost = None
        self.accepted = answer
        return nullcontext()

    def answer(self, answer: UploadAnswer) -> None:
        self._on_lost = None
        if not self.is_lost:
            self.answers.append(answer)

    def break_off(self) -> None:
        self.is_broken_off = True

    def leaves(self) -> None:
        self.is_lost = True
        if self._on_lost is not None:
            self._on_lost()

    @property
    def refusal(self) -> str:
        """The refusal of the last answer; empty when it is none."""
        found = self.answers[-1].refusal
        return "" if found is None else found.value

# SPDX-License-Identifier: Apache-2.0
"""Sends recordings to the daemon, which stores them: while they are recorded, and after a restart.

The CPVM has no secondary storage, and no network that leads to it; the control channel is what it has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from systemvm.cpvm.recording.spool import RecordingSpool
from systemvm.rpc.core.errors import RpcError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.recording import (
    CONSOLE_RECORD,
    CONSOLE_RECORDED,
    MAX_PIECE_BYTES,
    RecordedEnd,
    RecordedPiece,
    RecordingEnd,
    RecordingRefusal,
)

#: Less than a whole piece waits so long, because a call costs more than the bytes of a screen that hardly
#: changes; a player of a session that runs is so much behind.
GATHER_S = 5.0
FIRST_RETRY_S, LONGEST_RETRY_S = 2.0, 60.0
#: Pieces on their way at once: the channel must stay free for tokens of new sessions.
PIECES_AT_ONCE = 2
CALL_DEADLINE_S = 60.0


class DaemonCaller(Protocol):
    """`AgentContext.call_daemon`."""

    def __call__(
        self, method: str, params: Any = None, *, result: Any = None, deadline_s: float = 30.0
    ) -> Awaitable[Any]: ...


@define
class _Upload:
    """One recording that is being sent, and what it waits for."""

    running: Deferred[None] | None = None
    waiting: Deferred[None] | None = None  # until there is enough to send
    timer: IDelayedCall | None = None

    async def wait(self) -> None:
        self.waiting = Deferred()
        await self.waiting

    def go_on(self) -> None:
        """Have it send what there is."""
        waiting, self.waiting = self.waiting, None
        self._end_timer()
        if waiting is not None:
            waiting.callback(None)

    def cancel(self) -> None:
        self._end_timer()
        if self.running is not None:
            self.running.cancel()

    def _end_timer(self) -> None:
        timer, self.timer = self.timer, None
        if timer is not None and timer.active():
            timer.cancel()


class RecordingUploads:
    """The recordings that are not stored completely; `on_refused` gets the id of one that is not wanted."""

    log = Logger()

    def __init__(
        self, reactor: Any, spool: RecordingSpool, call: DaemonCaller, on_refused: Callable[[str], None]
    ) -> None:
        self._reactor = reactor
        self._spool = spool
        self._call = call
        self._on_refused = on_refused
        self._uploads: dict[str, _Upload] = {}
        spool.on_change = self.wake
        self._places = DeferredSemaphore(PIECES_AT_ONCE)

    def recover(self) -> None:
        """Go on with what an agent before this one has left."""
        for recording_id, end in self._spool.recover().items():
            self.log.info("recording {recording} is stored: {end}", recording=recording_id, end=end.value)
            self.wake(recording_id)

    def wake(self, recording_id: str) -> None:
        """Send what there is of a recording soon; to be called when it has begun, grown or ended."""
        upload = self._uploads.get(recording_id)
        if upload is None:
            upload = self._uploads[recording_id] = _Upload()
            upload.running = Deferred.fromCoroutine(self._run(recording_id, upload))
            upload.running.addErrback(self._failed, recording_id)
        elif upload.waiting is None:
            return
        elif self._is_due(recording_id):
            upload.go_on()
        elif upload.timer is None and self._spool.bytes_of(recording_id):
            upload.timer = self._reactor.callLater(GATHER_S, upload.go_on)

    def stop(self) -> None:
        """End without waiting; the spool keeps what is left."""
        uploads, self._uploads = self._uploads, {}
        for upload in uploads.values():
            upload.cancel()

    def _is_due(self, recording_id: str) -> bool:
        is_ended = self._spool.end_of(recording_id) is not None
        return is_ended or self._spool.bytes_of(recording_id) >= MAX_PIECE_BYTES

    async def _run(self, recording_id: str, upload: _Upload) -> None:
        retry_s, is_retry = FIRST_RETRY_S, False
        while True:
            if not is_retry and not self._is_due(recording_id):
                await upload.wait()
            piece = self._spool.oldest(recording_id)
            if piece is None:
                if self._spool.end_of(recording_id) is not None:
                    break
                continue
            params = RecordedPiece(recording_id, piece.offset, piece.data)
            try:
                await self._places.run(self._send, CONSOLE_RECORD, params)
            except RpcError as refused:
                if refused.reason == RecordingRefusal.STORE_AWAY.value:
                    await deferLater(self._reactor, retry_s)
                    retry_s, is_retry = min(LONGEST_RETRY_S, 2 * retry_s), True
                    continue
                text = "recording {recording} is given up: {why}"
                self.log.warn(text, recording=recording_id, why=str(refused))  # noqa: G010
                self._spool.end(recording_id, RecordingEnd.REFUSED)
                self._on_refused(recording_id)
                break
            retry_s, is_retry = FIRST_RETRY_S, False
            self._spool.remove(piece)
        end = self._spool.end_of(recording_id) or RecordingEnd.REFUSED
        gaps = self._spool.gaps_of(recording_id)
        await self._send(CONSOLE_RECORDED, RecordedEnd(recording_id, end.value, gaps))
        self._spool.forget(recording_id)
        self._uploads.pop(recording_id, None)

    def _send(self, method: str, params: Any) -> Deferred[Any]:
        async def send() -> None:
            await self._call(method, params, result=Acknowledgement, deadline_s=CALL_DEADLINE_S)

        return Deferred.fromCoroutine(send())

    def _failed(self, failure: Failure, recording_id: str) -> None:
        self._uploads.pop(recording_id, None)
        if failure.check(CancelledError):
            return
        self.log.failure("recording {recording} is not stored", failure=failure, recording=recording_id)
        self._spool.forget(recording_id)

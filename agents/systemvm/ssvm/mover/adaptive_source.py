# SPDX-License-Identifier: Apache-2.0
"""Receives a file over one connection, and over several while that is faster.

The one connection goes on until another has proved that the server sends parts of the same file. When all
of several have failed, the transfer goes back to one, which is resumed as any broken transfer is.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Protocol

from attrs import evolve

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.http_response import ResumePoint
from systemvm.ssvm.limits import MIB
from systemvm.ssvm.mover.connection_growth import Change, ConnectionGrowth
from systemvm.ssvm.mover.ranged_source import RangedSource
from systemvm.ssvm.mover.resuming_source import ResumingSource
from systemvm.ssvm.mover_messages import MoverJob
from systemvm.wire.transfer_failure import TransferFailure

#: A shorter rest is not worth another connection.
MIN_REST_BYTES = 32 * MIB
#: How far in front of the one connection another begins: it has this long to prove itself.
AHEAD_S = 1.0
MIN_AHEAD_BYTES, MAX_AHEAD_BYTES = 2 * MIB, 64 * MIB


class MoreConnections(Protocol):
    """Where more connections come from: fetch, which opens them to the same address."""

    def request_connection(self) -> None: ...

    def take_connection(self) -> tuple[socket.socket, MoverJob] | None: ...


class OneConnection:
    """For a mover whose memory is a part of an object: the window of several connections has no room."""

    def request_connection(self) -> None:
        """Ask nobody."""

    def take_connection(self) -> tuple[socket.socket, MoverJob] | None:
        return None


class AdaptiveSource:
    """A body from its first byte to its last."""

    def __init__(
        self,
        single: ResumingSource,
        more: MoreConnections,
        monotonic_s: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._single = single
        self._more = more
        self._monotonic_s = monotonic_s
        self._cpu_s = cpu_s
        self._ranged: RangedSource | None = None
        self._switch_at = 0  # the position where several connections take over
        self._is_draining = False
        self._waited_s = 0.0
        self._begun_s = monotonic_s()
        self._begun_bytes = single.received_bytes
        self._growth = ConnectionGrowth(self._begun_s, self._begun_bytes)

    @property
    def received_bytes(self) -> int:
        """The next byte in order."""
        ranged = self._ranged  # another thread asks, too
        if ranged is None or self._single.received_bytes < self._switch_at:
            return self._single.received_bytes
        return ranged.position

    @property
    def total_bytes(self) -> int | None:
        return self._single.total_bytes

    @property
    def content_encoding(self) -> str | None:
        return self._single.content_encoding

    @property
    def _is_ranged(self) -> bool:
        return self._ranged is not None and self._single.received_bytes >= self._switch_at

    def resume_point(self) -> ResumePoint | None:
        """Return where another response can resume; None when none can."""
        point = self._single.resume_point()
        return point if point is None else evolve(point, received_bytes=self.received_bytes)

    def read_into(self, buffer: memoryview) -> int:
        """Read once into `buffer`; return the number of bytes, 0 at the verified end of the body.

        Raises: TransferError when the body cannot be resumed.
        """
        self._take_connections()
        begun_s, cpu_s = self._monotonic_s(), self._cpu_s()
        count = self._read(buffer)
        now_s = self._monotonic_s()
        self._waited_s += now_s - begun_s - (self._cpu_s() - cpu_s)
        self._adapt(now_s)
        return count

    def _read(self, buffer: memoryview) -> int:
        if self._ranged is None:
            return self._single.read_into(buffer)
        ahead = self._switch_at - self._single.received_bytes
        if ahead > 0:
            count = self._single.read_into(buffer[:ahead])
            if self._single.received_bytes >= self._switch_at:
                self._switch()
            return count
        try:
            count = self._ranged.read_into(buffer)
        except TransferError as error:
            return self._go_back(error, buffer)
        if count == 0 and self._ranged.position != self.total_bytes:
            lost = TransferError(TransferFailure.CONNECTION_LOST, "several connections bring nothing")
            return self._go_back(lost, buffer)
        return count

    def fetch_again(self, error: TransferError, position: int) -> None:
        """Continue at an earlier byte over another connection, as what came from there on is damaged.

        Raises: TransferError when the file must be requested from its first byte.
        """
        point = self.resume_point()
        if point is None:
            raise error
        ranged, self._ranged, self._is_draining = self._ranged, None, False
        if ranged is not None:
            ranged.close()
        self._single.close()
        self._single.continue_at(error, evolve(point, received_bytes=position))
        self._growth.restarted(self._monotonic_s(), self._single.received_bytes, self._waited_s)

    def _switch(self) -> None:
        """Leave the one connection if another has proved to be of use; otherwise go on with it."""
        if self._ranged is not None and self._ranged.received_bytes > self._switch_at:
            self._single.close()
            self._more.request_connection()
        else:
            self._give_up()

    def _give_up(self) -> None:
        if self._ranged is None:
            return
        error = self._ranged.last_error
        self._growth.refused(self._monotonic_s(), None if error is None else error.retry_after_s)
        self._ranged.close()
        self._ranged = None

    def _go_back(self, error: TransferError, buffer: memoryview) -> int:
        ranged, self._ranged, self._is_draining = self._ranged, None, False
        if ranged is not None:
            ranged.close()
            self._single.continue_at(error, ranged.resume_point())
            self._growth.restarted(self._monotonic_s(), self._single.received_bytes, self._waited_s)
        return self._single.read_into(buffer)

    # ---- how many connections ------------------------------------------------------------------------------

    def _adapt(self, now_s: float) -> None:
        received = self._received_ahead()
        if self._is_ranged and self._connections < self._growth.connections:
            self._growth.removed(now_s, received, self._waited_s)
        change = self._growth.observe(now_s, received, self._waited_s)
        if change is Change.ADD and self._can_have_more():
            self._more.request_connection()
        elif change is Change.REMOVE and self._ranged is not None:
            if self._growth.connections <= 2:
                self._ranged.drain()
                self._is_draining = True
            else:
                self._ranged.remove()
                self._growth.removed(now_s, received, self._waited_s)

    @property
    def _connections(self) -> int:
        return 1 if self._ranged is None else self._ranged.connections

    def _received_ahead(self) -> int:
        if self._ranged is None or not self._is_ranged:
            return self._single.received_bytes
        return self._ranged.received_bytes

    def _can_have_more(self) -> bool:
        point = self._single.resume_point()
        return (
            point is not None
            and point.validator is not None
            and point.total_bytes is not None
            and point.encoding is None
            and not point.is_plain
            and not self._is_draining
            and point.total_bytes - self.received_bytes >= MIN_REST_BYTES
        )

    def _take_connections(self) -> None:
        taken = self._more.take_connection()
        if taken is None:
            return
        connection, job = taken
        if not self._can_have_more() or (self._ranged is not None and not self._is_ranged):
            connection.close()
        elif self._ranged is None:
            self._begin_ranges(connection, job)
        else:
            self._ranged.add(connection, job)
            self._growth.added(self._monotonic_s(), self._received_ahead(), self._waited_s)

    def _begin_ranges(self, connection: socket.socket, job: MoverJob) -> None:
        point = self._single.resume_point()
        if point is None:
            connection.close()
            return
        elapsed_s = max(1e-3, self._monotonic_s() - self._begun_s)
        rate = (self._single.received_bytes - self._begun_bytes) / elapsed_s
        ahead = int(min(MAX_AHEAD_BYTES, max(MIN_AHEAD_BYTES, AHEAD_S * rate)))
        self._switch_at = self._single.received_bytes + ahead
        self._ranged = RangedSource(evolve(point, received_bytes=self._switch_at))
        self._ranged.add(connection, job)

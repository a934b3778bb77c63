# SPDX-License-Identifier: Apache-2.0
"""The rest of a file over several connections at a time, read in order: a thread for each connection."""

from __future__ import annotations

import socket
import threading

from attrs import evolve

from systemvm.ssvm.failure import TransferError, of_this_vm
from systemvm.ssvm.http_response import ResumePoint
from systemvm.ssvm.mover.range_channel import RangeChannel
from systemvm.ssvm.mover.range_plan import RangePlan, Segment
from systemvm.ssvm.mover_messages import MoverJob
from systemvm.wire.transfer_failure import TransferFailure


class RangedSource:
    """`read_into` returns the bytes in order; `add` begins with a connection."""

    def __init__(self, point: ResumePoint) -> None:
        if point.total_bytes is None:
            raise ValueError("the size of the file is not known")
        self._plan = RangePlan(point.received_bytes, point.total_bytes)
        self._point = point
        self._changed = threading.Condition()
        self._channels: set[RangeChannel] = set()
        self._to_remove = 0
        self._stopped = False
        self.last_error: TransferError | None = None

    @property
    def position(self) -> int:
        """The next byte in order."""
        return self._plan.frontier

    @property
    def received_bytes(self) -> int:
        """What has come of the file, whether in order or not."""
        return self._plan.frontier + self._plan.waiting_bytes

    @property
    def connections(self) -> int:
        return len(self._channels)

    def resume_point(self) -> ResumePoint:
        return evolve(self._point, received_bytes=self._plan.frontier)

    def add(self, connection: socket.socket, job: MoverJob) -> None:
        """Begin to receive over another connection, in a thread; its failure does not end the others."""
        channel = RangeChannel(connection, job, self._point)
        with self._changed:
            self._channels.add(channel)
        threading.Thread(target=self._receive, args=(channel,), name="range", daemon=True).start()

    def remove(self) -> None:
        """End one connection after its part."""
        with self._changed:
            self._to_remove += 1

    def drain(self) -> None:
        """Request nothing more; `read_into` returns 0 behind what was requested."""
        with self._changed:
            self._plan.end_here()
            self._changed.notify_all()

    def read_into(self, buffer: memoryview) -> int:
        """Read the next bytes; return 0 at the end.

        Raises: TransferError when no connection is left; what was read so far is in order and complete.
        """
        with self._changed:
            while True:
                data = self._plan.take(len(buffer))
                if data:
                    buffer[: len(data)] = data
                    self._changed.notify_all()
                    return len(data)
                if self._plan.is_done:
                    return 0
                if not self._channels:
                    raise self.last_error or TransferError(
                        TransferFailure.CONNECTION_LOST, "no connection is left", "retry the template"
                    )
                self._changed.wait()

    def close(self) -> None:
        """End all connections."""
        with self._changed:
            self._stopped = True
            channels = list(self._channels)
            self._changed.notify_all()
        for channel in channels:
            channel.close()

    # ---- a thread for each connection ----------------------------------------------------------------------

    def _receive(self, channel: RangeChannel) -> None:
        try:
            channel.open()
            while channel.is_reusable and (segment := self._next_segment()) is not None:
                self._receive_segment(channel, segment)
        except TransferError as error:
            self.last_error = error
        except Exception as error:
            self.last_error = of_this_vm(error)
        finally:
            channel.close()
            with self._changed:
                self._channels.discard(channel)
                self._changed.notify_all()

    def _receive_segment(self, channel: RangeChannel, segment: Segment) -> None:
        try:
            for data in channel.receive(segment):
                with self._changed:
                    self._plan.put(segment, data)
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._plan.give_back(segment)
                self._changed.notify_all()

    def _next_segment(self) -> Segment | None:
        """Return the next part to receive; None for a connection that is to end."""
        with self._changed:
            while not self._stopped and not self._plan.is_done:
                if self._to_remove and len(self._channels) > 1:
                    self._to_remove -= 1
                    return None
                segment = self._plan.assign()
                if segment is not None:
                    return segment
                self._changed.wait()
        return None

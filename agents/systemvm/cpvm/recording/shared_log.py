# SPDX-License-Identifier: Apache-2.0
"""A bounded log in memory that the agent writes and the recorder's process reads, without a system call.

The memory outlives the agent: what it had written when it was killed is still read by the recorder. An
entry counts when the counter behind it was written, which is thousands of a processor's cycles later.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
from collections.abc import Callable, Iterator

from attrs import field, frozen

CAPACITY_BYTES = 4 << 20
#: A longer content is written as several entries.
MAX_CONTENT_BYTES = 512 << 10
_BEGIN = 64  # of the entries; before them are the counters
_COUNTER = struct.Struct("=Q")
_WRITTEN_AT, _TAKEN_AT = 0, 8
_HEAD = struct.Struct("=IIdQ")  # kind, number of the recording, time in s, length of the content
_ALIGNED = 8
_HEAD_BYTES, _write_head, _write_counter = _HEAD.size, _HEAD.pack_into, _COUNTER.pack_into  # of the hot path

#: Fills the beginning of a buffer, and returns how many bytes it has read.
ReadInto = Callable[[memoryview], int]


class EntryKind(enum.IntEnum):
    """What an entry is about."""

    FILLER = 0  # up to the end of the memory
    BEGIN = 1  # a recording begins: an order, as JSON
    SERVER = 2  # what the browser gets
    FORMAT = 3  # the format of pixels, and a byte that is 1 when it is the last one
    END = 4  # the connection has ended


@frozen
class LogEntry:
    """One entry as it was read."""

    kind: EntryKind
    number: int
    time_ms: int
    content: bytes = field(repr=False)


class SharedLog:
    """Both ends of the log; `descriptor` is inherited by the other process.

    `capacity_bytes` is a multiple of 8, and of both ends the same.
    """

    __slots__ = (
        *("descriptor", "is_pressed", "quiet_until_s"),
        *("_capacity", "_free_until", "_memory", "_pressed_bytes", "_taken", "_written"),
    )

    def __init__(self, descriptor: int, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self.descriptor = descriptor
        self._capacity = capacity_bytes
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE  # the first lap is as fast as the others
        self._memory = mmap.mmap(descriptor, _BEGIN + capacity_bytes, flags)
        self._written: int = _COUNTER.unpack_from(self._memory, _WRITTEN_AT)[0]
        self._pressed_bytes = capacity_bytes // 2
        self._taken: int = _COUNTER.unpack_from(self._memory, _TAKEN_AT)[0]
        #: Up to here an entry needs no look at the reader, and no filler before it.
        self._free_until = self._written
        #: Whether half of the room was taken when that was looked at: those who write much are to wait.
        self.is_pressed = False
        #: Until then `copying` need not call its `write`.
        self.quiet_until_s = 0.0

    @classmethod
    def create(cls, capacity_bytes: int = CAPACITY_BYTES) -> SharedLog:
        """Make a log that has no name.

        Raises: OSError when there is no memory.
        """
        descriptor = os.memfd_create("recordings", os.MFD_CLOEXEC)
        try:
            os.posix_fallocate(descriptor, 0, _BEGIN + capacity_bytes)
            return cls(descriptor, capacity_bytes)
        except BaseException:
            os.close(descriptor)
            raise

    def close(self) -> None:
        self._memory.close()
        os.close(self.descriptor)

    # -- the agent's end

    @property
    def waiting_bytes(self) -> int:
        """Return how much the reader has not taken."""
        taken: int = _COUNTER.unpack_from(self._memory, _TAKEN_AT)[0]
        return self._written - taken

    def look_at_reader(self) -> bool:
        """Return whether the log is pressed now."""
        self.is_pressed = self.waiting_bytes > self._pressed_bytes
        return self.is_pressed

    def append(self, kind: EntryKind, number: int, time_s: float, content: bytes | memoryview) -> bool:
        """Write an entry; return False when there is no room for it."""
        memory, capacity, written, size = self._memory, self._capacity, self._written, len(content)
        total = _HEAD_BYTES + size + _ALIGNED - 1 & -_ALIGNED
        at = written % capacity
        if at + total > capacity:
            filler, begin = capacity - at, _BEGIN
        else:
            filler, begin = 0, _BEGIN + at
        after, taken = written + filler + total, written - self.waiting_bytes
        if after - taken > capacity:
            return False
        if filler >= _HEAD_BYTES:
            _write_head(memory, _BEGIN + at, EntryKind.FILLER, 0, 0.0, 0)
        _write_head(memory, begin, kind, number, time_s, size)
        begin += _HEAD_BYTES
        memory[begin : begin + size] = content
        self._written = after
        _write_counter(memory, _WRITTEN_AT, after)
        self._free_until = min(taken + self._pressed_bytes, after + capacity - after % capacity)
        self.look_at_reader()
        return True

    def copying(
        self,
        read_into: ReadInto,
        number: int,
        seconds: Callable[[], float],
        must_wait: Callable[[], bool],
        write: Callable[[memoryview], None],
    ) -> ReadInto:
        """Return a `read_into` that writes what it has read as an entry, too; nothing while it must wait.

        Where the room, the reader or the time is to be looked at, it calls `write` instead. A relay reads
        every update of a screen by this, and between two of them the processor's caches forget it: one
        function that touches little costs half of what several cost.
        """
        memory, capacity = self._memory, self._capacity
        write_head, write_counter, head_bytes, server = (
            _write_head,
            _write_counter,
            _HEAD_BYTES,
            int(EntryKind.SERVER),
        )

        def read_and_copy(buffer: memoryview) -> int:
            if self.is_pressed and must_wait():
                raise BlockingIOError
            size = read_into(buffer)
            written, now_s = self._written, seconds()
            after = written + (head_bytes + size + 7 & -8)
            if not size or after > self._free_until or now_s >= self.quiet_until_s:
                if size:
                    write(buffer[:size])
                return size
            at = _BEGIN + written % capacity
            write_head(memory, at, server, number, now_s, size)
            at += head_bytes
            memory[at : at + size] = buffer[:size]
            self._written = after
            write_counter(memory, _WRITTEN_AT, after)
            return size

        return read_and_copy

    # -- the recorder's end

    @property
    def end(self) -> int:
        """Return how much was ever written: a bound for `take`."""
        [written] = _COUNTER.unpack_from(self._memory, _WRITTEN_AT)
        return int(written)

    def take(self, end: int) -> Iterator[LogEntry]:
        """Yield entries up to `end`; each is yielded once, and its room is free then."""
        memory, capacity = self._memory, self._capacity
        while self._taken < end:
            at = self._taken % capacity
            if capacity - at < _HEAD.size:
                self._free(capacity - at)
                continue
            kind, number, time_s, size = _HEAD.unpack_from(memory, _BEGIN + at)
            if kind == EntryKind.FILLER:
                self._free(capacity - at)
                continue
            begin = _BEGIN + at + _HEAD.size
            content = memory[begin : begin + size]
            self._free((_HEAD.size + size + _ALIGNED - 1) & -_ALIGNED)
            yield LogEntry(EntryKind(kind), number, int(time_s * 1000), content)

    def _free(self, count: int) -> None:
        self._taken += count
        _COUNTER.pack_into(self._memory, _TAKEN_AT, self._taken)

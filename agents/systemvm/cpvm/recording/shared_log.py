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
from collections.abc import Iterator

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

Content = bytes | memoryview


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

    @property
    def is_pressed(self) -> bool:
        """Return whether half of the room is taken: those who write much are to wait."""
        return self.waiting_bytes > self._pressed_bytes

    def append_if_free(self, kind: EntryKind, number: int, time_s: float, content: Content) -> bool:
        """Write an entry if that is known to leave the log without pressure; return whether it was written.

        This is on the path of every update of a recorded screen.
        """
        size, written = len(content), self._written
        after = written + (_HEAD_BYTES + size + _ALIGNED - 1 & -_ALIGNED)
        if after > self._free_until:
            return False
        memory, at = self._memory, _BEGIN + written % self._capacity
        _write_head(memory, at, kind, number, time_s, size)
        memory[at + _HEAD_BYTES : at + _HEAD_BYTES + size] = content
        self._written = after
        _write_counter(memory, _WRITTEN_AT, after)
        return True

    def append(self, kind: EntryKind, number: int, time_s: float, content: Content) -> bool:
        """Write an entry; return False when there is no room for it."""
        capacity, written = self._capacity, self._written
        total = _HEAD_BYTES + len(content) + _ALIGNED - 1 & -_ALIGNED
        left = capacity - written % capacity  # before the end of the memory
        filler = left if total > left else 0
        [taken] = _COUNTER.unpack_from(self._memory, _TAKEN_AT)
        if written + filler + total - taken > capacity:
            return False
        if filler:
            if filler >= _HEAD_BYTES:
                _write_head(self._memory, _BEGIN + written % capacity, EntryKind.FILLER, 0, 0.0, 0)
            self._written = written = written + filler
            left = capacity
        self._free_until = written + total
        self.append_if_free(kind, number, time_s, content)
        self._free_until = min(taken + self._pressed_bytes, written + left)
        return True

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

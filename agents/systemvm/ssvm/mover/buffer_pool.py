# SPDX-License-Identifier: Apache-2.0
"""The buffers that the threads of a mover share: a bounded number, so that a slow store slows the source."""

from __future__ import annotations

from queue import SimpleQueue


class BufferPool:
    """At most `count` buffers of `size_bytes`, each made when it is needed: a small image needs few.

    The one that was given back last is taken first: more of it is in the processor's cache.
    """

    def __init__(self, count: int, size_bytes: int) -> None:
        self._count = self._unmade = count
        self._surplus = 0  # of those that are in use
        self._size_bytes = size_bytes
        self._free: list[bytearray] = []
        self._tickets: SimpleQueue[None] = SimpleQueue()  # one for each that is free

    def take(self) -> bytearray:
        """Return a buffer; wait for one when all are in use. For one thread."""
        if self._unmade > 0 and not self._free:
            self._unmade -= 1
            return bytearray(self._size_bytes)
        self._tickets.get()
        return self._free.pop()

    def give_back(self, buffer: bytearray) -> None:
        """Let a buffer be taken again. For any thread."""
        if self._surplus > 0:
            self._surplus -= 1
            return
        self._free.append(buffer)
        self._tickets.put(None)

    def shrink(self, count: int) -> None:
        """Have no more than `count` buffers from now on. For the thread that gives them back."""
        surplus = self._count - count
        if surplus > 0:
            self._count = count
            unmade = min(surplus, self._unmade)
            self._unmade -= unmade
            self._surplus += surplus - unmade

    def wake(self) -> None:
        """End a `take` that waits: nobody gives a buffer back any more."""
        self._surplus = 0
        self.give_back(bytearray(self._size_bytes))

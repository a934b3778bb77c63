# SPDX-License-Identifier: Apache-2.0
"""What a serial port has written, without I/O: the end of it, at positions that count from the beginning.

Every console of the port reads at its own position. The machine never waits for a slow one, which misses what
has been dropped meanwhile.
"""

from __future__ import annotations

#: The most that is kept: a console that joins sees it, and one that reads slowly is at most this far behind.
KEPT_BYTES = 128 * 1024
#: Long enough that it does not occur twice by chance.
_PROBE_BYTES = 64


class SerialOutput:
    """The last KEPT_BYTES of a stream; `end` is the position behind its last byte."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._bytes = bytearray()
        self.end = 0

    @property
    def start(self) -> int:
        """The position of the oldest byte that is kept."""
        return self.end - len(self._bytes)

    def append(self, data: bytes | memoryview) -> None:
        self._bytes += data
        self.end += len(data)
        excess = len(self._bytes) - self._kept_bytes
        if excess > 0:
            del self._bytes[:excess]

    def read(self, position: int, most: int) -> tuple[int, bytes]:
        """Return how many bytes behind `position` were dropped, and what follows them."""
        dropped = max(0, self.start - position)
        begin = position + dropped - self.start
        return dropped, bytes(self._bytes[begin : begin + most])


def without_overlap(history: bytes, received: bytes) -> bytes:
    """Return `received` without what `history` already ends with.

    The log is read after the connection was made, so that nothing is missing between them.

    >>> without_overlap(b"login: ", b"in: root")
    b'root'
    """
    probe = received[:_PROBE_BYTES]
    at = history.find(probe) if len(probe) == _PROBE_BYTES else -1
    while at >= 0:
        if received.startswith(history[at:]):
            return received[len(history) - at :]
        at = history.find(probe, at + 1)
    for count in range(min(len(probe), len(history)), 0, -1):
        if history.endswith(probe[:count]):
            return received[count:]
    return received

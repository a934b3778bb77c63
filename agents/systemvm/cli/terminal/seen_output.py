# SPDX-License-Identifier: Apache-2.0
"""What a serial console has shown, so that after a reconnection only the rest of the scroll-back is shown."""

from __future__ import annotations

#: Long enough that its last occurrence is the place where the connection was lost.
TAIL_BYTES = 4096
#: A shorter end that is also a beginning is chance.
_LEAST_BYTES = 16


class SeenOutput:
    """The end of what was shown."""

    def __init__(self) -> None:
        self._tail = b""

    def append(self, data: bytes) -> None:
        self._tail = (self._tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]

    def unseen(self, history: bytes) -> bytes:
        """Return what follows in `history` what was shown; all of it when that is not in it.

        >>> seen = SeenOutput(); seen.append(b"login: "); seen.unseen(b"boot login: root")
        b'root'
        """
        if not self._tail:
            return history
        at = history.rfind(self._tail)
        if at >= 0:
            return history[at + len(self._tail) :]
        # the scroll-back can begin within what was shown
        for count in range(min(len(self._tail), len(history)), _LEAST_BYTES, -1):
            if history.startswith(self._tail[-count:]):
                return history[count:]
        return history

# SPDX-License-Identifier: Apache-2.0
"""The minimum rate of a source: a trickle that never stops must not block a job for ever."""

from __future__ import annotations

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import TransferLimits
from systemvm.wire.transfer_failure import TransferFailure


class MinimumRate:
    """That of one connection. Only the time spent waiting for the source counts, not a slow store."""

    def __init__(self, limits: TransferLimits) -> None:
        self._limits = limits
        self._waited_s = 0.0
        self._received_bytes = 0

    def note(self, waited_s: float, received_bytes: int) -> None:
        """Record how long a read took, and how many bytes it returned."""
        self._waited_s += waited_s
        self._received_bytes += received_bytes

    def check(self) -> None:
        """Check before a read: bytes that a read has returned must be used, or a resumed transfer lacks them.

        Raises: TransferError when too few bytes were received in a whole window.
        """
        if self._waited_s < self._limits.slow_window_s:
            return
        if self._received_bytes < self._limits.slow_window_bytes:
            raise TransferError(
                TransferFailure.STALLED,
                f"source is too slow: {self._received_bytes} bytes came in {self._limits.slow_window_s:g} s",
                "retry the template later: the server or the network is too slow",
            )
        self._waited_s, self._received_bytes = 0.0, 0

# SPDX-License-Identifier: Apache-2.0
"""Whether a source sends fast enough: a trickle that never stops must not hold a job for ever."""

from __future__ import annotations

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.limits import TransferLimits
from systemvm.wire.transfer_failure import TransferFailure


class MinimumRate:
    """Of one connection. Only time spent waiting for the source counts: a slow store is not its fault."""

    def __init__(self, limits: TransferLimits) -> None:
        self._limits = limits
        self._waited_s = 0.0
        self._received_bytes = 0

    def note(self, waited_s: float, received_bytes: int) -> None:
        """A read took so long and brought so much."""
        self._waited_s += waited_s
        self._received_bytes += received_bytes

    def check(self) -> None:
        """TransferError when a whole window brought too little.

        To be called before a read: what a read has brought is to be used whatever its pace was, or a transfer
        that goes on elsewhere would leave it out.
        """
        if self._waited_s < self._limits.slow_window_s:
            return
        if self._received_bytes < self._limits.slow_window_bytes:
            raise TransferError(
                TransferFailure.STALLED,
                f"only {self._received_bytes} bytes came in {self._limits.slow_window_s:g} s",
                "the server or the way to it is too slow; retry the template later",
            )
        self._waited_s, self._received_bytes = 0.0, 0

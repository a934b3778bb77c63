# SPDX-License-Identifier: Apache-2.0
"""Counts the calls of the API by command and status, and how long they took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

from attrs import define, field

from systemvm.service.metrics import Histogram

#: Of calls whose command is not in the table: their names are the caller's, and must not become labels.
UNKNOWN = "unknown"


@define
class ApiMeter:
    """The counts since the daemon's start; `seconds` is a monotonic clock."""

    seconds: Callable[[], float]
    calls: Counter[tuple[str, int]] = field(factory=Counter)  # by command and status
    times: defaultdict[str, Histogram] = field(factory=lambda: defaultdict(Histogram))  # by command

    def observe(self, command: str, status: int, began_s: float) -> None:
        """Count a call that was answered."""
        self.calls[command, status] += 1
        self.times[command].observe(self.seconds() - began_s)

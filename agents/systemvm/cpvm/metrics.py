# SPDX-License-Identifier: Apache-2.0
"""What a console proxy counts for its metrics: how consoles were opened, how they ended, and their bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from attrs import define, field

from systemvm.cpvm.refusal import BrowserRefusal
from systemvm.service.metrics import Histogram, Metric, MetricKind, counter, gauge

_T = TypeVar("_T")


async def timed(awaited: Awaitable[_T], histogram: Histogram, seconds: Callable[[], float]) -> _T:
    """Return the result, and observe how long it took; a failure is not observed."""
    begun_s = seconds()
    result = await awaited
    histogram.observe(seconds() - begun_s)
    return result


@define
class ConsoleMetrics:
    """The counts since the agent's start."""

    sent_bytes: int = 0
    received_bytes: int = 0
    refusals: Counter[str] = field(factory=Counter)
    ends: Counter[str] = field(factory=Counter)
    tls_handshakes: Histogram = field(factory=Histogram)
    validations: Histogram = field(factory=Histogram)
    screens: Histogram = field(factory=Histogram)

    def add_bytes(self, sent: int, received: int) -> None:
        self.sent_bytes += sent
        self.received_bytes += received

    def refuse(self, refusal: BrowserRefusal) -> None:
        """Count a browser that was shown no console."""
        self.refusals[refusal.name.lower()] += 1

    def end(self, refusal: BrowserRefusal) -> None:
        """Count the end of a session."""
        self.ends[refusal.name.lower()] += 1

    def metrics(self, *, sessions: int, connected: int, places: int, is_draining: bool) -> list[Metric]:
        """Return all metrics, with what the server has now."""
        return [
            gauge("systemvm_console_sessions", "Sessions, connected or not", sessions),
            gauge("systemvm_console_connected_sessions", "Sessions whose browsers are connected", connected),
            gauge("systemvm_console_sessions_max", "Sessions that the zone permits", places),
            gauge("systemvm_console_draining", "1 while no new session is taken", is_draining),
            counter("systemvm_console_opened", "Screens connected, reconnections too", self.screens.count),
            counter("systemvm_console_sent_bytes", "Bytes of screens sent to browsers", self.sent_bytes),
            counter("systemvm_console_received_bytes", "Bytes received from browsers", self.received_bytes),
            Metric(
                "systemvm_console_refusals",
                "Browsers that were shown no console",
                MetricKind.COUNTER,
                self.refusals,
                "reason",
            ),
            Metric(
                "systemvm_console_session_ends",
                "Sessions that ended",
                MetricKind.COUNTER,
                self.ends,
                "reason",
            ),
            Metric(
                "systemvm_console_handshake_seconds",
                "Time of handshakes: TLS with the browser, and everything up to a VM's screen",
                MetricKind.HISTOGRAM,
                {"browser": self.tls_handshakes, "screen": self.screens},
                "with",
            ),
            Metric(
                "systemvm_console_validation_seconds",
                "Time until the daemon answered whether a token is valid",
                MetricKind.HISTOGRAM,
                {"": self.validations},
            ),
        ]  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""Waits for conditions; only one that never holds ends in an error."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import reactor, task

from systemvm.service.slowness import scaled_s

#: Only detects a hang: what a busy machine does late is no failure. More for what is slow on purpose.
TIMEOUT_S = 120.0


async def until(condition: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
    """Return as soon as `condition` holds; AssertionError when it does not in time."""
    waited_s = 0.0
    while not condition():
        assert waited_s < scaled_s(timeout_s), f"the condition does not hold after {waited_s:.0f} s"
        await task.deferLater(reactor, 0.01)
        waited_s += 0.01

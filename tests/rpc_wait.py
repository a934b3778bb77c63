# SPDX-License-Identifier: Apache-2.0
"""Waits for conditions, with a timeout."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import reactor, task


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Return as soon as `condition` holds; AssertionError when it does not in time."""
    waited_s = 0.0
    while not condition():
        assert waited_s < timeout_s, f"the condition does not hold after {timeout_s:g} s"
        await task.deferLater(reactor, 0.01)
        waited_s += 0.01

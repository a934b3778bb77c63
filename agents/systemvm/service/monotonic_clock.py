# SPDX-License-Identifier: Apache-2.0
"""Timers that are independent of the wall clock.

Twisted's reactors count in wall-clock time (twisted.python.runtime.seconds is time.time): setting the clock
forward ends every deadline at once, setting it back stops all timers for as long, that of the watchdog too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def use_monotonic_clock(reactor: Any, seconds: Callable[[], float] = time.monotonic) -> None:
    """Have this reactor count by `seconds`.

    Raises: ValueError when something is scheduled already.
    """
    if reactor.getDelayedCalls():
        raise ValueError("calls are scheduled by the wall clock already")
    reactor.seconds = seconds

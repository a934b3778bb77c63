# SPDX-License-Identifier: Apache-2.0
"""Timers that do not notice when somebody sets the clock.

Twisted's reactors count in wall-clock time (twisted.python.runtime.seconds is time.time): a clock set forward
ends every deadline at once, one set back stops all timers for as long, the watchdog's among them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def use_monotonic_clock(reactor: Any, seconds: Callable[[], float] = time.monotonic) -> None:
    """Have this reactor count by `seconds`; to be called before anything is scheduled."""
    if reactor.getDelayedCalls():
        raise ValueError("something is scheduled in the other time already")
    reactor.seconds = seconds

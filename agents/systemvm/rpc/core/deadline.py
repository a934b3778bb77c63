# SPDX-License-Identifier: Apache-2.0
"""The time until which a caller waits, on this end's clock, counted from when its request was read."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen


@frozen
class Deadline:
    """A time on the clock `seconds`, after which the caller does not wait any more.

    The time that a request spent in buffers of the caller or the kernel is unknown and not counted.
    """

    seconds: Callable[[], float]
    at_s: float

    @classmethod
    def after(cls, seconds: Callable[[], float], wait_s: float) -> Deadline:
        return cls(seconds, seconds() + wait_s)

    @property
    def remaining_s(self) -> float:
        """0 when it has passed."""
        return max(0.0, self.at_s - self.seconds())

    @property
    def has_passed(self) -> bool:
        return self.remaining_s <= 0

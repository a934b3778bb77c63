# SPDX-License-Identifier: Apache-2.0
"""The shares of the movers: their sum is the total, and none that is needed is left unused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.fetch.rate_shares import INTERVAL_S, MIN_SHARE_BYTES_PER_S, RateShares
from systemvm.ssvm.limits import KIB, MIB


class Downloads:
    """Movers with sources of given speeds, which receive what source and share allow."""

    def __init__(self, total: int | None) -> None:
        self.shares = RateShares()
        self.shares.set_total(total)
        self.limits: dict[str, int | None] = {}
        self.received: dict[str, float] = {}
        self.speeds: dict[str, float] = {}

    def begin(self, name: str, speed: float = float("inf"), own: int | None = None) -> None:
        def apply(limit: int | None) -> None:
            self.limits[name] = limit

        self.limits[name] = self.shares.join(name, own, apply)
        self.received[name], self.speeds[name] = 0.0, speed

    def run(self, seconds: float) -> dict[str, float]:
        """Return how much each has received a second."""
        before = dict(self.received)
        steps = int(seconds / INTERVAL_S)
        for _ in range(steps):
            for name, speed in self.speeds.items():
                limit = self.limits[name]
                rate = min(speed, float("inf") if limit is None else limit, 1000 * MIB)
                self.received[name] += rate * INTERVAL_S
                self.shares.note(name, int(self.received[name]))
            self.shares.rebalance(INTERVAL_S)
        return {name: (self.received[name] - before[name]) / (steps * INTERVAL_S) for name in self.speeds}


def test_without_limits_nothing_is_limited() -> None:
    downloads = Downloads(None)
    downloads.begin("a")
    downloads.begin("b", own=MIB)
    downloads.run(10)
    assert downloads.limits == {"a": None, "b": MIB}
    assert not downloads.shares.is_shared


def test_equal_downloads_have_equal_shares() -> None:
    downloads = Downloads(8 * MIB)
    for name in "abcd":
        downloads.begin(name)
    assert downloads.limits == dict.fromkeys("abcd", 2 * MIB)


def test_what_slow_sources_leave_goes_to_the_others() -> None:
    downloads = Downloads(8 * MIB)
    downloads.begin("slow", speed=256 * KIB)
    downloads.begin("fast")
    downloads.begin("limited", own=MIB)
    downloads.run(20)
    rates = downloads.run(20)
    assert rates["slow"] >= 250 * KIB
    assert rates["limited"] >= 0.95 * MIB
    assert rates["fast"] >= 6 * MIB
    assert sum(rates.values()) <= 8 * MIB


def test_a_source_that_becomes_fast_gets_its_share() -> None:
    downloads = Downloads(8 * MIB)
    downloads.begin("a", speed=10 * KIB)
    downloads.begin("b")
    downloads.run(20)
    downloads.speeds["a"] = float("inf")
    downloads.run(20)
    rates = downloads.run(20)
    assert rates["a"] >= 3.9 * MIB and rates["b"] >= 3.9 * MIB


def test_the_share_of_one_that_ends_goes_to_the_others() -> None:
    downloads = Downloads(8 * MIB)
    downloads.begin("a")
    downloads.begin("b")
    downloads.shares.leave("a")
    downloads.shares.leave("a")
    assert downloads.limits["b"] == 8 * MIB


def test_limits_change_while_downloads_run() -> None:
    downloads = Downloads(8 * MIB)
    downloads.begin("a")
    downloads.begin("b")
    downloads.shares.set_own("a", MIB)
    assert downloads.limits == {"a": MIB, "b": 7 * MIB}
    downloads.shares.set_total(None)
    assert downloads.limits == {"a": MIB, "b": None}
    downloads.shares.set_own("unknown", 1)


@given(st.integers(64 * KIB, 100 * MIB), st.lists(st.floats(1, 200 * MIB), min_size=1, max_size=8))
def test_the_sum_is_never_above_the_total(total: int, speeds: list[float]) -> None:
    downloads = Downloads(total)
    for number, speed in enumerate(speeds):
        downloads.begin(str(number), speed)
    for _ in range(10):
        rates = downloads.run(INTERVAL_S)
        assert sum(rates.values()) <= max(total, len(speeds) * MIN_SHARE_BYTES_PER_S) * 1.001
        limits = [limit for limit in downloads.limits.values() if limit is not None]
        assert len(limits) == len(speeds)

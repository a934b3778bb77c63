# SPDX-License-Identifier: Apache-2.0
"""How many connections a transfer uses, with servers of several kinds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from systemvm.ssvm.limits import MIB
from systemvm.ssvm.mover.connection_growth import (
    FIRST_HOLD_S,
    MAX_CONNECTIONS,
    Change,
    ConnectionGrowth,
)

STEP_S = 0.1


class Transfer:
    """A transfer with a server whose total rate depends on the number of connections."""

    def __init__(self, rate: Callable[[int], float], waits: float = 1.0) -> None:
        self._rate = rate
        self._waits = waits
        self.now_s = self.received = self.waited_s = 0.0
        self.growth = ConnectionGrowth(0.0, 0)
        self.most = 1
        self.added = 0

    def run(self, seconds: float) -> int:
        """Return the number of connections at the end."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += STEP_S
            self.received += STEP_S * self._rate(self.growth.connections)
            self.waited_s += STEP_S * self._waits
            change = self.growth.observe(self.now_s, int(self.received), self.waited_s)
            if change is Change.ADD:
                self.growth.added(self.now_s, int(self.received), self.waited_s)
                self.added += 1
            elif change is Change.REMOVE:
                self.growth.removed(self.now_s, int(self.received), self.waited_s)
            self.most = max(self.most, self.growth.connections)
        return self.growth.connections


def test_a_server_that_limits_each_connection_gets_all_of_them() -> None:
    assert Transfer(lambda connections: 5 * MIB * connections).run(60) == MAX_CONNECTIONS


def test_a_server_that_limits_all_of_them_together_keeps_one() -> None:
    transfer = Transfer(lambda connections: 5 * MIB)
    assert transfer.run(FIRST_HOLD_S) == 1
    assert transfer.most == 2, "it was tried"
    assert transfer.run(600) == 1
    assert transfer.added <= 6, "it is tried less and less often"


def test_one_that_gains_nothing_is_given_back_and_the_others_stay() -> None:
    assert Transfer(lambda connections: 5 * MIB * min(connections, 2)).run(25) == 2


@pytest.mark.parametrize("transfer", [Transfer(lambda _: 300.0 * MIB), Transfer(lambda _: 5.0 * MIB, 0.1)])
def test_a_fast_server_and_a_slow_store_are_left_alone(transfer: Transfer) -> None:
    transfer.run(120)
    assert transfer.most == 1


def test_a_refusal_is_respected() -> None:
    transfer = Transfer(lambda connections: 5 * MIB * connections)
    transfer.growth.refused(0.0, retry_after_s=100.0)
    assert transfer.run(99) == 1
    assert transfer.run(60) == MAX_CONNECTIONS

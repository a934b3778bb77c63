# SPDX-License-Identifier: Apache-2.0
"""Bridges that cannot be made: their networks have the reason, and are tried again."""

from __future__ import annotations

import pytest_twisted
from twisted.internet.testing import MemoryReactorClock

from systemvm.host.bridges import HostNetwork
from systemvm.management.host_bridges import HostBridges
from systemvm.management.network_helper import NetworkError

WHY = NetworkError("Open vSwitch does not run on this host", "start it")


class Maker:
    def __init__(self) -> None:
        self.calls = 0
        self.unusable: dict[str, NetworkError] = {}

    async def ensure(self) -> dict[str, NetworkError]:
        self.calls += 1
        return self.unusable


@pytest_twisted.ensureDeferred
async def test_an_unusable_network_has_the_reason_until_its_bridge_is_made() -> None:
    clock, maker = MemoryReactorClock(), Maker()
    one, two = HostNetwork.of("br1", ["public"]), HostNetwork.of("br2", ["guest"])
    labels = {"one": one, "two": two, "br2": two}
    bridges = HostBridges(clock, maker, labels)
    maker.unusable = {"br2": WHY}
    await bridges.start()
    assert [network.unusable for network in labels.values()] == [None, WHY, WHY]
    clock.advance(61)
    assert maker.calls == 2
    assert labels["two"].unusable is WHY
    maker.unusable = {}
    clock.advance(61)
    assert [network.unusable for network in labels.values()] == [None] * 3
    clock.advance(61)
    assert maker.calls == 3, "nothing was missing"
    bridges.stop()
    maker.unusable = {"br1": WHY}
    clock.advance(600)
    assert maker.calls == 3

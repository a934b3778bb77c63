# SPDX-License-Identifier: Apache-2.0
"""Sites, proxy and SSVMs that downloads reach inside of the cloud's own networks, as the agent opens them."""

from __future__ import annotations

from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.agent.open_sources import OpenedSources
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.store_messages import OpenSources, SourceServer
from systemvm.wire.source_networks import SourceNetworks, SsvmAddress
from systemvm.wire.storage import DownloadRequest, ImageFormat, Store

BOOT = {"eth2ip": "203.0.113.100", "mgmtcidr": "10.11.0.0/24", "fetch_allowed": "10.11.0.5",
        "fetch_denied": "203.0.113.96/27"}  # fmt: skip
OTHER = SsvmAddress("203.0.113.120", 443)


class FakeFirewall:
    """The helper; `fails` is what it answers."""

    def __init__(self) -> None:
        self.orders: list[OpenSources] = []
        self.fails: RpcError | None = None
        self.hold: Deferred[None] | None = None

    async def open_sources(self, order: OpenSources) -> None:
        if self.hold is not None:
            await self.hold
        if self.fails is not None:
            raise self.fails
        self.orders.append(order)


@pytest.fixture
def firewall() -> FakeFirewall:
    return FakeFirewall()


@pytest.fixture
def opened(firewall: FakeFirewall) -> OpenedSources:
    return OpenedSources(BOOT, cast(StoreClient, firewall))


def request(job_id: str = "job-1", **more: Any) -> DownloadRequest:
    return DownloadRequest(
        job_id, "r", 7, 2, "2-7-u", "d", "https://203.0.113.120/userdata/x/y.raw", ImageFormat.RAW,
        Store("10.12.0.2", "/a"), 1 << 30, **more,
    )  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_a_changed_zone_replaces_the_boot_arguments(
    firewall: FakeFirewall, opened: OpenedSources
) -> None:
    assert opened.networks_for(request()) == ["10.11.0.5/32"]
    await opened.set_zone(SourceNetworks(["10.11.0.50"], "10.11.0.9:3128"))
    assert firewall.orders == [OpenSources(["10.11.0.50"], "10.11.0.9:3128")]
    assert opened.networks_for(request()) == ["10.11.0.50/32"]
    assert opened.boot["fetch_proxy"] == "10.11.0.9:3128"
    await opened.set_zone(SourceNetworks(["10.11.0.50"], "10.11.0.9:3128"))
    assert len(firewall.orders) == 1, "nothing has changed"
    await opened.set_zone(SourceNetworks())
    assert firewall.orders[-1] == OpenSources()
    assert opened.networks_for(request()) == []


@pytest_twisted.ensureDeferred
async def test_what_an_earlier_agent_has_opened_is_closed(
    firewall: FakeFirewall, opened: OpenedSources
) -> None:
    await opened.set_zone(SourceNetworks(["10.11.0.5"]))
    assert firewall.orders == [OpenSources(["10.11.0.5"])], "once, although nothing has changed"
    await opened.set_zone(SourceNetworks(["10.11.0.5"]))
    assert len(firewall.orders) == 1


@pytest_twisted.ensureDeferred
async def test_policy_and_firewall_stay_the_same_when_the_firewall_cannot_be_changed(
    firewall: FakeFirewall, opened: OpenedSources
) -> None:
    firewall.fails = RpcError.refused("internal", "no")
    with pytest.raises(RpcError):
        await opened.set_zone(SourceNetworks(["10.11.0.50"]))
    assert opened.networks_for(request()) == ["10.11.0.5/32"]
    with pytest.raises(RpcError):
        await opened.open_for(request(source_server=OTHER))
    firewall.fails = None
    await opened.set_zone(SourceNetworks())
    assert firewall.orders == [OpenSources()], "the download that failed has opened nothing"


@pytest_twisted.ensureDeferred
async def test_an_ssvm_is_open_while_a_download_comes_from_it(
    firewall: FakeFirewall, opened: OpenedSources
) -> None:
    await opened.open_for(request())
    assert firewall.orders == []
    first, second = request("job-1", source_server=OTHER), request("job-2", source_server=OTHER)
    await opened.open_for(first)
    await opened.open_for(second)
    await opened.open_for(second)
    server = [SourceServer("203.0.113.120", 443)]
    assert firewall.orders == [OpenSources(["10.11.0.5"], "", server)] * 2
    assert opened.networks_for(first) == ["10.11.0.5/32", "203.0.113.120"]
    assert opened.networks_for(request("job-3")) == ["10.11.0.5/32"], "no other download reaches it"
    opened.close_for("job-1")
    assert firewall.orders[-1].servers == server
    opened.close_for("job-2")
    assert firewall.orders[-1].servers == []


@pytest.mark.parametrize("address", ["203.0.113.100", "10.11.0.7", "127.0.0.1", "169.254.0.1"])
def test_the_policy_stays_closed_for_what_is_no_other_ssvm(opened: OpenedSources, address: str) -> None:
    asked = request(source_server=SsvmAddress(address, 443))
    assert opened.networks_for(asked) == ["10.11.0.5/32"]


@pytest_twisted.ensureDeferred
async def test_changes_reach_the_helper_one_after_another(
    firewall: FakeFirewall, opened: OpenedSources
) -> None:
    firewall.hold = Deferred()
    opening = Deferred.fromCoroutine(opened.open_for(request(source_server=OTHER)))
    opened.close_for("job-1")
    firewall.hold.callback(None)
    await opening
    assert firewall.orders[-1].servers == [], "the last change wins"

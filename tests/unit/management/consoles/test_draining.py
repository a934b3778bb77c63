# SPDX-License-Identifier: Apache-2.0
"""drainConsoleProxy: no new session, and an end of those that are left."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.consoles.draining import ConsoleDraining
from systemvm.management.state.instances import Instance
from systemvm.management.state.rows import NotFoundError
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import CONSOLE_DRAIN, ConsoleDrain


async def details(cloud: SmallCloud, vm: Instance) -> str:
    answer = await cloud.call("createConsoleEndpoint", virtualmachineid=vm.uuid)
    endpoint = answer["consoleendpoint"]
    return " ".join(str(endpoint.get(key, "")) for key in ("details", "hint")).strip()


@pytest_twisted.ensureDeferred
async def test_a_drained_proxy_gets_no_link_until_it_is_undone(cloud: SmallCloud, vm: Instance) -> None:
    peer = cloud.agents.peer(cloud.cpvm.instance_name)
    assert peer is not None
    peer.answers[CONSOLE_DRAIN] = lambda _: Acknowledgement()
    assert (await cloud.call("drainConsoleProxy", id=cloud.cpvm.uuid, timeout="600"))["success"]
    refused = await details(cloud, vm)
    assert "ready in a few minutes" in refused
    assert "drain NAME --cancel" in refused, "the hint names the cause"
    [told] = peer.params_of(CONSOLE_DRAIN)
    assert 590 < told.deadline_s <= 600
    await cloud.call("drainConsoleProxy", id=cloud.cpvm.uuid, cancel="true")
    assert peer.params_of(CONSOLE_DRAIN)[-1] == ConsoleDrain(None)
    assert await details(cloud, vm) == ""


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_does_not_answer_is_told_when_it_connects(cloud: SmallCloud, vm: Instance) -> None:
    class CalledAgent:
        name = cloud.cpvm.instance_name

    peer = cloud.agents.peer(cloud.cpvm.instance_name)
    assert peer is not None
    peer.answers[CONSOLE_DRAIN] = lambda _: RpcError(NOT_CONNECTED, "gone")
    answer = await cloud.call("drainConsoleProxy", id=cloud.cpvm.uuid)
    assert "told later" in answer["displaytext"]
    assert "ready in a few minutes" in await details(cloud, vm)
    peer.answers[CONSOLE_DRAIN] = lambda _: Acknowledgement()
    agent: Any = CalledAgent()
    await ConsoleDraining(cloud.database, cloud.agents, cloud.clock).reconcile(agent)
    assert 3500 < peer.params_of(CONSOLE_DRAIN)[-1].deadline_s <= 3600


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("seconds", ["-1", "86401", "soon"])
async def test_other_times_are_refused(cloud: SmallCloud, vm: Instance, seconds: str) -> None:
    with pytest.raises(ApiError):
        await cloud.call("drainConsoleProxy", id=cloud.cpvm.uuid, timeout=seconds)
    assert await details(cloud, vm) == ""


@pytest_twisted.ensureDeferred
async def test_only_console_proxies_are_drained_and_only_by_administrators(cloud: SmallCloud) -> None:
    with pytest.raises(NotFoundError):
        await cloud.call("drainConsoleProxy", id=cloud.ssvm.uuid)
    with pytest.raises(ApiError):
        await cloud.call("drainConsoleProxy", cloud.user, id=cloud.cpvm.uuid)

# SPDX-License-Identifier: Apache-2.0
"""CPVMs are told where the screens of their consoles are."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from console_tokens import add_vm, authorize, new_token
from settling import settled
from small_cloud import SmallCloud
from small_cloud.agents import FakePeer
from systemvm.management.consoles.retargeting import ConsoleRetargeting
from systemvm.management.state.instances import Instance
from systemvm.management.state.status import InstanceState
from systemvm.rpc.core.errors import METHOD_NOT_FOUND, NOT_CONNECTED, RpcError
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.console import CONSOLE_RETARGET, ConsoleRetarget


class CalledAgent:
    def __init__(self, name: str) -> None:
        self.name = name


def peer_of(cloud: SmallCloud, answer: Any = None) -> FakePeer:
    peer = cloud.agents.peer(cloud.cpvm.instance_name)
    assert peer is not None
    peer.answers[CONSOLE_RETARGET] = lambda _: answer or Acknowledgement()
    return peer


@pytest_twisted.ensureDeferred
async def test_a_started_machine_moves_its_consoles(cloud: SmallCloud, vm: Instance) -> None:
    peer = peer_of(cloud)
    await authorize(cloud, await new_token(cloud, vm))
    await new_token(cloud, add_vm(cloud, "two", 5902))  # a link that nobody opened
    cloud.update_instance(vm, vnc_port=5999)
    retargeting = ConsoleRetargeting(cloud.database, cloud.agents)
    await retargeting.of_machine(vm.id)
    await settled(cloud.database)
    assert peer.params_of(CONSOLE_RETARGET) == [ConsoleRetarget(vm.uuid, "10.11.0.1", 5999)]


@pytest_twisted.ensureDeferred
async def test_a_machine_without_a_screen_or_consoles_moves_nothing(cloud: SmallCloud, vm: Instance) -> None:
    peer = peer_of(cloud)
    retargeting = ConsoleRetargeting(cloud.database, cloud.agents)
    await retargeting.of_machine(vm.id)
    await authorize(cloud, await new_token(cloud, vm))
    cloud.update_instance(vm, state=InstanceState.STOPPED, vnc_port=None, vnc_address=None)
    await retargeting.of_machine(vm.id)
    await settled(cloud.database)
    assert peer.params_of(CONSOLE_RETARGET) == []


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_is_away_delays_no_machine_and_is_told_when_it_connects(
    cloud: SmallCloud, vm: Instance
) -> None:
    peer = peer_of(cloud, RpcError(NOT_CONNECTED, "gone"))
    await authorize(cloud, await new_token(cloud, vm))
    retargeting = ConsoleRetargeting(cloud.database, cloud.agents)
    await retargeting.of_machine(vm.id)
    await settled(cloud.database)
    peer.calls.clear()
    peer.answers[CONSOLE_RETARGET] = lambda _: Acknowledgement()
    agent: Any = CalledAgent(cloud.cpvm.instance_name)
    await retargeting.reconcile(agent)
    assert peer.params_of(CONSOLE_RETARGET) == [ConsoleRetarget(vm.uuid, "10.11.0.1", 5901)]
    peer.answers[CONSOLE_RETARGET] = lambda _: RpcError(METHOD_NOT_FOUND, "an older agent")
    await retargeting.reconcile(agent)

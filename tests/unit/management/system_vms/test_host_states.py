# SPDX-License-Identifier: Apache-2.0
"""The state of a system VM's agent is one of CloudStack's host states."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from guest_output import (
    NAME,
)
from systemvm.management.state import instances
from systemvm.management.state.host_state import HostState, host_state
from systemvm.management.state.status import AgentState, InstanceState


@pytest.mark.parametrize(
    ("state", "agent", "ended_by_itself", "expected"),
    [
        (InstanceState.STARTING, None, False, HostState.CREATING),
        (InstanceState.STARTING, AgentState.CONNECTING, False, HostState.CONNECTING),
        (InstanceState.RUNNING, None, False, HostState.CONNECTING),
        (InstanceState.RUNNING, AgentState.CONNECTING, False, HostState.CONNECTING),
        (InstanceState.RUNNING, AgentState.UP, False, HostState.UP),
        (InstanceState.RUNNING, AgentState.ALERT, False, HostState.ALERT),
        (InstanceState.RUNNING, AgentState.DISCONNECTED, False, HostState.DISCONNECTED),
        (InstanceState.STOPPING, AgentState.UP, False, HostState.DISCONNECTED),
        (InstanceState.STOPPED, AgentState.UP, False, HostState.DISCONNECTED),
        (InstanceState.STOPPED, AgentState.DISCONNECTED, True, HostState.DOWN),
        (InstanceState.ERROR, AgentState.ALERT, False, HostState.ERROR),
        (InstanceState.DESTROYED, AgentState.UP, False, HostState.REMOVED),
        (InstanceState.EXPUNGING, AgentState.UP, False, HostState.REMOVED),
    ],
)
@pytest_twisted.ensureDeferred
async def test_states_are_those_of_cloudstack(
    host: Any, state: Any, agent: Any, ended_by_itself: bool, expected: Any
) -> None:
    await host.reconciler.scan()
    vm = await host.database.read(instances.by_instance_name, NAME)
    row = await host.database.run(
        instances.update, vm.id, state=state, agent_state=agent, ended_by_itself=ended_by_itself
    )
    assert host_state(row) is expected
    await host.database.drain()


def test_every_state_exists_in_cloudstack() -> None:
    names = "Creating Connecting Up Down Disconnected Alert Removed Error"
    assert {state.value for state in HostState} == set(names.split())

# SPDX-License-Identifier: Apache-2.0
"""The state of a system VM's agent, as CloudStack names the state of a host (reference 1.14)."""

from __future__ import annotations

import enum

from systemvm.management.state.instances import Instance
from systemvm.management.state.status import AgentState, InstanceState


class HostState(enum.Enum):
    """`state` of listHosts and `agentstate` of listSystemVms.

    CloudStack's Rebalancing and Unknown belong to clusters of management servers and do not occur here.
    """

    CREATING = "Creating"  # its first start is under way, before it waits for its agent
    CONNECTING = "Connecting"  # its machine boots, or its agent is being set up
    UP = "Up"
    DOWN = "Down"  # its machine ended by itself and is about to be started again
    DISCONNECTED = "Disconnected"  # it was stopped, or has not connected since the daemon started
    ALERT = "Alert"  # its machine runs, and it should be Up
    REMOVED = "Removed"
    ERROR = "Error"


_OF_AGENT = {
    AgentState.CONNECTING: HostState.CONNECTING,
    AgentState.UP: HostState.UP,
    AgentState.ALERT: HostState.ALERT,
    AgentState.DISCONNECTED: HostState.DISCONNECTED,
}


def host_state(vm: Instance) -> HostState:
    """Return the state; the VM's state comes first, because an agent cannot be Up in a stopped VM."""
    if vm.removed is not None or vm.state.is_gone:
        return HostState.REMOVED
    match vm.state:
        case InstanceState.ERROR:
            return HostState.ERROR
        case InstanceState.STOPPED:
            return HostState.DOWN if vm.ended_by_itself else HostState.DISCONNECTED
        case InstanceState.STOPPING:
            return HostState.DISCONNECTED
    if vm.agent_state is None:
        return HostState.CREATING if vm.state is InstanceState.STARTING else HostState.CONNECTING
    return _OF_AGENT[vm.agent_state]


def explanation_of(vm: Instance) -> tuple[str | None, str | None]:
    """Return reason and hint: why the VM is not Running, else why its agent is not Up, or a warning."""
    if vm.state is not InstanceState.RUNNING:
        return vm.reason, vm.hint
    return (f"Its agent {vm.agent_reason}" if vm.agent_reason else None), vm.agent_hint

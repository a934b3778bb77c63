# SPDX-License-Identifier: Apache-2.0
"""A system VM's agent as a host in CloudStack's words (com.cloud.host.Status; reference 1.14)."""

from __future__ import annotations

import enum

from systemvm.management.state.instances import Instance
from systemvm.management.state.status import AgentState, InstanceState

#: How a row's reason begins when its machine ended without having been asked to.
ENDED = "ended: "


class HostState(enum.Enum):
    """`state` of listHosts and `agentstate` of listSystemVms.

    Rebalancing and Unknown are of clusters of management servers and never said here.
    """

    CREATING = "Creating"  # its first start is under way, and nobody has waited for its agent yet
    CONNECTING = "Connecting"  # its machine boots, or its agent is being set up
    UP = "Up"
    DOWN = "Down"  # its machine ended by itself and is about to be started again
    DISCONNECTED = "Disconnected"  # it was asked to go, or has not called since the daemon was started
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
    """The machine's state has the first word: an agent cannot be Up in one that does not run."""
    if vm.removed is not None or vm.state.is_gone:
        return HostState.REMOVED
    match vm.state:
        case InstanceState.ERROR:
            return HostState.ERROR
        case InstanceState.STOPPED:
            return HostState.DOWN if (vm.reason or "").startswith(ENDED) else HostState.DISCONNECTED
        case InstanceState.STOPPING:
            return HostState.DISCONNECTED
    if vm.agent_state is None:
        return HostState.CREATING if vm.state is InstanceState.STARTING else HostState.CONNECTING
    return _OF_AGENT[vm.agent_state]


def explanation_of(vm: Instance) -> tuple[str | None, str | None]:
    """Reason and hint: why it is not Running, else why its agent is not Up, or what is wrong all the same."""
    if vm.state is not InstanceState.RUNNING:
        return vm.reason, vm.hint
    return (f"Its agent {vm.agent_reason}" if vm.agent_reason else None), vm.agent_hint

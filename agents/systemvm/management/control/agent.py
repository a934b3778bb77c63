# SPDX-License-Identifier: Apache-2.0
"""One agent as the daemon knows it, connected or not."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.state.status import AgentState
from systemvm.rpc.peer import Peer
from systemvm.wire.agent import Health, Hello
from systemvm.wire.role import Role


@frozen
class AgentStatus:
    """What `agentstate` says, and why, for people."""

    state: AgentState
    reason: str = ""
    hint: str = ""


class Agent:
    """The agent of one system VM; `peer` is None while it is not connected."""

    def __init__(self, name: str, role: Role, status: AgentStatus) -> None:
        self.name = name
        self.role = role
        self.status = status
        self.peer: Peer | None = None
        self.hello: Hello | None = None
        self.health: Health | None = None
        self.heard_s = 0.0  # on the reactor's clock

    @property
    def is_up(self) -> bool:
        return self.peer is not None and self.status.state is AgentState.UP

# SPDX-License-Identifier: Apache-2.0
"""One agent as the daemon knows it, connected or not."""

from __future__ import annotations

from attrs import frozen

from systemvm.management.state.status import AgentState
from systemvm.rpc.call import Connection
from systemvm.wire.agent import Health, Hello
from systemvm.wire.protocol import LISTINGS_SINCE, Fit
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
        self.peer: Connection | None = None
        self.hello: Hello | None = None
        self.health: Health | None = None
        self.heard_s = 0.0  # on the reactor's clock

    @property
    def fit(self) -> Fit:
        """Whether it speaks a version of the protocol that this daemon speaks; GOOD until it said hello."""
        return Fit.GOOD if self.hello is None else Fit.of(self.hello.protocol_version)

    @property
    def has_listings(self) -> bool:
        """Whether it can be asked what it has (protocol 2)."""
        return self.hello is not None and self.hello.protocol_version >= LISTINGS_SINCE

    @property
    def is_up(self) -> bool:
        return self.peer is not None and self.status.state is AgentState.UP

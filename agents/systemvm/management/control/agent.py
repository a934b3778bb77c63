# SPDX-License-Identifier: Apache-2.0
"""One agent as the daemon knows it, connected or not."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.state.status import AgentState
from systemvm.rpc.core.call import Connection
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.agent import Health, Hello
from systemvm.wire.protocol import LISTINGS_SINCE, Fit
from systemvm.wire.role import Role
from systemvm.wire.slowness import MachineLoad


@frozen
class AgentStatus:
    """What `agentstate` says, and why, for people."""

    state: AgentState
    reason: str = ""
    hint: str = ""


class NotReadyError(SystemVmError):
    """Raised by a preparation that knows exactly why the agent is not Up."""

    code = FailureCode.UNAVAILABLE

    def __init__(self, status: AgentStatus) -> None:
        super().__init__(status.reason, status.hint)
        self.status = status


@frozen
class Remark:
    """Something that people should know of an agent that is Up all the same."""

    reason: str
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
        #: When its process was found to be another than before; what the older one carried ended with it.
        self.new_process_at: datetime | None = None
        self.refused_s: float | None = None  # when its newest connection was refused, on the reactor's clock
        self.heard_s = 0.0  # on the reactor's clock
        self.remarks: dict[str, Remark] = {}  # by whose they are
        self.trusts = ""  # the id of the bundle of CAs that it was last given over the channel
        self.certified_until_s: float | None = None  # UNIX time: the end of its newest certificate

    def remark(self, whose: str, remark: Remark | None) -> None:
        """Say this beside `Up` from the next change of state on; None: nothing any more."""
        if remark is None:
            self.remarks.pop(whose, None)
        else:
            self.remarks[whose] = remark

    def up_status(self) -> AgentStatus:
        remarks = list(self.remarks.values())
        return AgentStatus(
            AgentState.UP,
            "; ".join(remark.reason for remark in remarks),
            "; ".join(remark.hint for remark in remarks if remark.hint),
        )

    @property
    def load(self) -> MachineLoad:
        """How slow its machine is, as far as it has told."""
        told = None if self.health is None else self.health.load
        return told or MachineLoad()

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

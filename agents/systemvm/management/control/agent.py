# SPDX-License-Identifier: Apache-2.0
"""The daemon's state of one agent, connected or not."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from systemvm.management.state.status import AgentState
from systemvm.rpc.core.call import Connection
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.wire.agent import Health, Hello
from systemvm.wire.protocol import LISTINGS_SINCE, Compatibility
from systemvm.wire.role import Role
from systemvm.wire.slowness import MachineLoad


@frozen
class AgentStatus:
    """The value of `agentstate`, with a reason and a hint for people."""

    state: AgentState
    reason: str = ""
    hint: str = ""


class NotReadyError(SystemVmError):
    """A preparation that failed for a known reason, which becomes the agent's status."""

    code = FailureCode.UNAVAILABLE

    def __init__(self, status: AgentStatus) -> None:
        super().__init__(status.reason, status.hint)
        self.status = status


@frozen
class Remark:
    """A problem of an agent that is Up all the same."""

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
        self.heard_s = 0.0  # when its last message arrived, on the reactor's clock
        self.remarks: dict[str, Remark] = {}  # by the name of the part that made them
        self.trusts = ""  # the id of the bundle of CAs that it last received over the channel
        self.certified_until_s: float | None = None  # UNIX time: the end of its newest certificate

    def remark(self, source: str, remark: Remark | None) -> None:
        """Show a remark beside `Up` from the next change of state on; None removes it."""
        if remark is None:
            self.remarks.pop(source, None)
        else:
            self.remarks[source] = remark

    def up_status(self) -> AgentStatus:
        remarks = list(self.remarks.values())
        return AgentStatus(
            AgentState.UP,
            "; ".join(remark.reason for remark in remarks),
            "; ".join(remark.hint for remark in remarks if remark.hint),
        )

    @property
    def load(self) -> MachineLoad:
        """The load of its machine, as far as reported."""
        reported = None if self.health is None else self.health.load
        return reported or MachineLoad()

    @property
    def fit(self) -> Compatibility:
        """Whether its protocol version is compatible with this daemon; GOOD before its hello."""
        return Compatibility.GOOD if self.hello is None else Compatibility.of(self.hello.protocol_version)

    def speaks(self, version: int) -> bool:
        """Return whether it speaks this version of the protocol."""
        return self.hello is not None and self.hello.protocol_version >= version

    @property
    def has_listings(self) -> bool:
        """Whether it can list what it has (since protocol 2)."""
        return self.speaks(LISTINGS_SINCE)

    @property
    def is_up(self) -> bool:
        return self.peer is not None and self.status.state is AgentState.UP

# SPDX-License-Identifier: Apache-2.0
"""The part of the directory that services call agents through."""

from __future__ import annotations

from typing import Any, Protocol

from systemvm.rpc.core.call import DEFAULT_DEADLINE_S
from systemvm.wire.agent import Capability
from systemvm.wire.protocol import OLDEST
from systemvm.wire.role import Role


class AgentPeer(Protocol):
    """A connected agent."""

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        result: Any = None,
        deadline_s: float = DEFAULT_DEADLINE_S,
        request_id: str | None = None,
    ) -> Any: ...


class ConnectedAgents(Protocol):
    """The agents that are connected, and those that are Up; `AgentDirectory` is one."""

    def peer(self, name: str) -> AgentPeer | None: ...
    def up(self, role: Role, since: int = OLDEST) -> list[str]: ...
    def can(self, name: str, capability: Capability) -> bool: ...

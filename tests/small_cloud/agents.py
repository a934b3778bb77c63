# SPDX-License-Identifier: Apache-2.0
"""The control channel to agents: connections that answer from tables of functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from systemvm.rpc.core.errors import METHOD_NOT_FOUND, RpcError
from systemvm.wire.agent import Capability
from systemvm.wire.protocol import CURRENT, OLDEST
from systemvm.wire.role import Role


class FakePeer:
    """An agent's connection that answers from a table of functions and records the calls."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self.calls: list[tuple[str, Any]] = []

    async def call(
        self,
        method: str,
        params: Any = None,
        *,
        result: Any = None,
        deadline_s: float = 30,
        request_id: str | None = None,
    ) -> Any:
        self.calls.append((method, params))
        if method not in self.answers:
            raise RpcError(METHOD_NOT_FOUND, f"no method {method}")
        answer = self.answers[method](params)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def params_of(self, method: str) -> list[Any]:
        """Return the params of all calls of one method."""
        return [params for name, params in self.calls if name == method]


class FakeAgents:
    """The connected agents, by name."""

    def __init__(self) -> None:
        self.peers: dict[str, tuple[Role, FakePeer]] = {}
        self.protocols: dict[str, int] = {}  # of agents that speak an older one
        self.lacking: set[tuple[str, Capability]] = set()  # names, and what their images are too old for

    def connect(self, name: str, role: Role) -> FakePeer:
        peer = FakePeer()
        self.peers[name] = (role, peer)
        return peer

    def disconnect(self, name: str) -> None:
        self.peers.pop(name, None)

    def peer(self, name: str) -> FakePeer | None:
        found = self.peers.get(name)
        return found[1] if found else None

    def up(self, role: Role, since: int = OLDEST) -> list[str]:
        speaking = [name for name in self.peers if self.protocols.get(name, CURRENT) >= since]
        return [name for name in speaking if self.peers[name][0] is role]

    def can(self, name: str, capability: Capability) -> bool:
        return (name, capability) not in self.lacking

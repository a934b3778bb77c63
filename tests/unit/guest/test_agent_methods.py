# SPDX-License-Identifier: Apache-2.0
"""RPC methods of both agents."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from systemvm.guest.agent_methods import AgentMethods, ConnectionState
from systemvm.guest.health import HealthSource
from systemvm.guest.paths import GuestPaths
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.wire.agent import METRICS, AgentMetrics


async def expose(accept: str) -> tuple[bytes, str]:
    assert accept == "", "the text format, which every version of the library reads"
    return b"systemvm_agent_connected 1.0\n", "text/plain"


def methods() -> MethodTable:
    table = MethodTable("agent", "0")
    state = ConnectionState("Up", True, 0)
    AgentMethods(Clock(), GuestPaths(), HealthSource(), lambda: state, expose).add_to(table)
    return table


@pytest_twisted.ensureDeferred
async def test_the_daemon_reads_what_prometheus_would() -> None:
    call = Call(Caller("host-1", "management"), "request", None)
    assert await methods().dispatch(call, METRICS, None) == AgentMetrics("systemvm_agent_connected 1.0\n")


@pytest_twisted.ensureDeferred
async def test_another_agent_does_not() -> None:
    with pytest.raises(RpcError):
        await methods().dispatch(Call(Caller("s-1-VM", "ssvm"), "request", None), METRICS, None)

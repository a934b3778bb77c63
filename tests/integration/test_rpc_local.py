# SPDX-License-Identifier: Apache-2.0
"""The stream peer on a UNIX socket, as between two processes of a guest."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from rpc_wait import until
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream.unix_stream import connect_unix_stream, listen_unix_stream
from systemvm.wire.agent import Ping, Pong

AGENT = Caller("agent", "agent")
FETCH = Caller("fetch", "fetch")


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name) / "fetch.sock"


def _methods(role: str, seen: list[Call]) -> MethodTable:
    async def ping(call: Call, params: Ping) -> Pong:
        seen.append(call)
        return Pong(params.sent_unix_s, 2.0)

    methods = MethodTable("test", "1")
    methods.add("ping", ping, params=Ping, result=Pong, roles=frozenset({role}))
    return methods


@pytest_twisted.ensureDeferred
async def test_both_ends_call_and_notify(path: Path) -> None:
    at_fetch: list[Call] = []
    at_agent: list[Call] = []
    peers: list[Peer] = []
    lost: list[str] = []
    port: Any = listen_unix_stream(
        reactor,
        path,
        _methods("agent", at_fetch),
        authorize=lambda uid, gid, pid: AGENT,
        on_connected=peers.append,
        on_lost=lambda peer, why: lost.append(why),
    )
    fetch = await connect_unix_stream(reactor, path, _methods("fetch", at_agent), remote=FETCH)
    assert await fetch.call("ping", Ping(1.0), result=Pong) == Pong(1.0, 2.0)
    (agent,) = peers
    assert await agent.call("ping", Ping(2.0), result=Pong) == Pong(2.0, 2.0)
    agent.notify("ping", Ping(3.0))
    await until(lambda: len(at_agent) == 2)
    assert (at_fetch[0].caller, at_agent[0].caller) == (AGENT, FETCH)
    fetch.close("done")
    await until(lambda: bool(lost))
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_refused_caller_is_not_read(path: Path) -> None:
    seen: list[Call] = []
    peers: list[Peer] = []
    port: Any = listen_unix_stream(
        reactor,
        path,
        _methods("agent", seen),
        authorize=lambda uid, gid, pid: None,
        on_connected=peers.append,
    )
    fetch = await connect_unix_stream(reactor, path, MethodTable("t", "1"), remote=FETCH)
    with pytest.raises(RpcError) as caught:
        await fetch.call("ping", Ping(1.0))
    assert caught.value.code == -32002
    assert seen == [] and peers == []
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_an_absent_listener_is_reported_at_once(path: Path) -> None:
    with pytest.raises(RpcError) as caught:
        await connect_unix_stream(reactor, path, MethodTable("t", "1"), remote=FETCH)
    assert caught.value.code == -32002

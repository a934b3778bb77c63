# SPDX-License-Identifier: Apache-2.0
"""A control socket as operators use it, with methods and an event source."""

from __future__ import annotations

import http.client
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread

from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.http.unix import listen_unix
from systemvm.wire.agent import Ping, Pong

OPERATOR = frozenset({"operator"})


class Server:
    """A control socket with methods, an event source, and an authorization that a test can revoke."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "managementd.sock"
        self.allows = True
        self.seen: list[Call] = []
        self.cancelled = 0
        self.more: Deferred[None] = Deferred()
        self.methods = MethodTable("daemon", "1")
        self.methods.add("ping", self._ping, params=Ping, result=Pong, roles=OPERATOR)
        self.methods.add("refuse", self._refuse, params=None, result=None, roles=OPERATOR)
        self.methods.add("boom", self._boom, params=None, result=None, roles=OPERATOR)
        self.methods.add("agents_only", self._boom, params=None, result=None, roles=frozenset({"ssvm"}))
        self.methods.add("hang", self._hang, params=None, result=None, roles=OPERATOR, deadline_s=0.3)
        self.port: Any = listen_unix(
            reactor, self.path, self.methods, authorize=self._authorize, events=self._events
        )

    def _authorize(self, uid: int, gid: int, pid: int) -> Caller | None:
        assert (uid, gid) == (os.geteuid(), os.getegid()) and pid > 0
        return Caller(f"uid:{uid}", "operator") if self.allows else None

    async def _ping(self, call: Call, params: Ping) -> Pong:
        self.seen.append(call)
        return Pong(params.sent_unix_s, 2.0)

    async def _refuse(self, call: Call, params: None) -> None:
        raise RpcError.refused("no_room", "no room", "delete something")

    async def _boom(self, call: Call, params: None) -> None:
        raise RuntimeError("hunter2")

    async def _hang(self, call: Call, params: None) -> None:
        await Deferred()

    async def _events(self, call: Call, job: str | None) -> AsyncIterator[Any]:
        if job == "unknown":
            raise RpcError.refused("unknown_job", "no such job", "systemvm jobs lists them")
        try:
            for number in range(3):
                yield {"job": job, "number": number}
                await task.deferLater(reactor, 0.01)
            if job == "broken":
                raise RuntimeError("hunter2")
            if job == "endless":
                await self.more
        except (CancelledError, GeneratorExit):
            self.cancelled += 1
            raise


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)  # a process of another user connects in a test
        yield Path(name)


@pytest_twisted.async_yield_fixture
async def server(directory: Path) -> Any:
    started = Server(directory)
    yield started
    await started.port.stopListening()


def http_request(path: Path, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("localhost", timeout=120)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(120)
    connection.sock.connect(str(path))
    try:
        connection.request(method, target, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


async def post(server: Server, message: Any) -> tuple[int, Any]:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    status, answer = await deferToThread(http_request, server.path, "POST", "/rpc", body)
    return status, json.loads(answer) if answer else None

# SPDX-License-Identifier: Apache-2.0
"""The operators' socket: blocking client, curl, batches, events, limits and refused callers."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet import reactor, task
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThread

from rpc_wait import until
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.http import unix_server
from systemvm.rpc.http.unix import listen_unix, root_and_group, root_only, unix_call, unix_events
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
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(20)
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


@pytest_twisted.ensureDeferred
async def test_the_blocking_client_calls(server: Server) -> None:
    answer = await deferToThread(unix_call, server.path, "ping", Ping(1.0), result=Pong, request_id="r-1")
    assert answer == Pong(1.0, 2.0)
    (call,) = server.seen
    assert (call.caller.role, call.request_id, call.peer) == ("operator", "r-1", None)
    discovered = await deferToThread(unix_call, server.path, "rpc.discover")
    assert "ping" in {method["name"] for method in discovered["methods"]}


@pytest.mark.parametrize(
    "method,code", [("refuse", -32010), ("boom", -32603), ("agents_only", -32001), ("nothing", -32601)]
)
@pytest_twisted.ensureDeferred
async def test_the_blocking_client_raises_the_error_of_the_response(
    server: Server, method: str, code: int
) -> None:
    with pytest.raises(RpcError) as caught:
        await deferToThread(unix_call, server.path, method)
    assert caught.value.code == code
    assert "hunter2" not in str(caught.value.to_wire())


@pytest_twisted.ensureDeferred
async def test_deadlines_hold_on_both_sides(server: Server) -> None:
    with pytest.raises(RpcError) as caught:
        await deferToThread(unix_call, server.path, "hang")
    assert caught.value.code == -32003
    with pytest.raises(RpcError) as caught:
        await deferToThread(unix_call, server.path, "hang", None, 0.1)
    assert caught.value.code == -32003


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest_twisted.ensureDeferred
async def test_plain_curl_is_a_client(server: Server) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"sent_unix_s": 1}}
    argv = ["curl", "-sS", "--max-time", "20", "--unix-socket", str(server.path)]
    done = await deferToThread(
        subprocess.run,
        [*argv, "-d", json.dumps(message), "http://localhost/rpc"],
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert json.loads(done.stdout)["result"]["clock_unix_s"] == 2.0
    done = await deferToThread(
        subprocess.run,
        [*argv, "-N", "http://localhost/events?job=j"],
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.count(b"data: ") == 3


@pytest_twisted.ensureDeferred
async def test_a_batch_is_answered_in_its_order_without_the_notifications(server: Server) -> None:
    ping = {"jsonrpc": "2.0", "method": "ping", "params": {"sent_unix_s": 1}}
    status, answers = await post(
        server, [ping | {"id": 1}, ping, {"bad": 1}, {"jsonrpc": "2.0", "id": 2, "method": "boom"}, 7]
    )
    assert status == 200
    assert [answer["id"] for answer in answers] == [1, None, 2, None]
    codes = [answer.get("error", {}).get("code") for answer in answers]
    assert codes == [None, -32600, -32603, -32600]
    assert await post(server, [ping, ping]) == (204, None)
    assert await post(server, ping) == (204, None)
    assert len(server.seen) == 5


@pytest.mark.parametrize(
    "body,code",
    [
        (b"nonsense", -32700),
        (b"", -32700),
        (b'"\xff"', -32700),
        (b"[" * 40 + b"]" * 40, -32700),
        (b"[]", -32600),
        (b"[" + b",".join([b"1"] * 65) + b"]", -32600),
        (b'{"jsonrpc":"2.0","id":1,"result":1}', -32600),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_bodies_are_answered(server: Server, body: bytes, code: int) -> None:
    status, answer = await post(server, body)
    assert (status, answer["error"]["code"]) == (200, code)


@pytest_twisted.ensureDeferred
async def test_other_methods_and_paths(server: Server) -> None:
    for method, target, expected in (
        ("GET", "/rpc", 405),
        ("DELETE", "/rpc", 405),
        ("POST", "/events", 405),
        ("GET", "/", 404),
        ("POST", "/rpc/more", 405),
        ("GET", "/etc/passwd", 404),
    ):
        status, _ = await deferToThread(http_request, server.path, method, target)
        assert (method, target, status) == (method, target, expected)


def _send_endlessly(path: Path, head: bytes, chunk: bytes) -> tuple[bytes, int]:
    """Send until the server closes the connection; return its response and the number of sent bytes."""
    sent = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
        plain.settimeout(20)
        plain.connect(str(path))
        plain.sendall(head)
        try:
            while sent < 64 * 1024 * 1024:
                plain.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass
        try:
            return plain.recv(65536), sent
        except OSError:
            return b"", sent


@pytest_twisted.ensureDeferred
async def test_a_body_too_long_is_refused_before_it_is_read(server: Server) -> None:
    head = b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
    answer, sent = await deferToThread(_send_endlessly, server.path, head, b"x" * 65536)
    assert answer.startswith(b"HTTP/1.1 413") and sent < 8 * 1024 * 1024


@pytest_twisted.ensureDeferred
async def test_a_chunked_body_too_long_is_refused_as_it_grows(server: Server) -> None:
    head = b"POST /rpc HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    answer, sent = await deferToThread(_send_endlessly, server.path, head, chunk)
    assert answer.startswith(b"HTTP/1.1 413") and sent < 8 * 1024 * 1024


@pytest_twisted.ensureDeferred
async def test_a_refused_caller_gets_403_everywhere(server: Server) -> None:
    server.allows = False
    with pytest.raises(RpcError) as caught:
        await deferToThread(unix_call, server.path, "ping", Ping(1.0))
    assert caught.value.code == -32001
    status, _ = await deferToThread(http_request, server.path, "GET", "/events?job=j")
    assert status == 403
    with pytest.raises(RpcError):
        await deferToThread(lambda: list(unix_events(server.path, "j")))
    assert server.seen == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest_twisted.ensureDeferred
async def test_the_caller_is_identified_by_the_kernel(directory: Path) -> None:
    """A real process of another user connects to a socket whose file mode permits it."""
    path = directory / "open.sock"
    methods = MethodTable("t", "1")
    port: Any = listen_unix(reactor, path, methods, authorize=root_only, mode=0o666)
    argv = ["curl", "-sS", "--max-time", "20", "--unix-socket", str(path), "-o", "/dev/null"]
    argv += ["-w", "%{http_code}", "-d", '{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}', "http://x/rpc"]
    for user, status in ((0, b"200"), (65534, b"403")):
        done = await deferToThread(
            subprocess.run,
            argv,
            capture_output=True,
            timeout=30,
            check=True,
            user=user,
            group=user,
            extra_groups=[],
        )
        assert done.stdout == status
    await port.stopListening()


def test_rules_for_hosts_and_guests() -> None:
    assert root_only(0, 0, 1) == Caller("uid:0", "operator")
    assert root_only(1000, 0, 1) is None
    rule = root_and_group("no-such-group-here")
    assert rule(0, 0, 1) == Caller("uid:0", "operator")
    assert rule(65534, 65534, 1) is None
    assert root_and_group("daemon")(65534, 1, 1) == Caller("uid:65534", "operator")


# ---- events ----


@pytest_twisted.ensureDeferred
async def test_events_come_one_by_one_and_end_with_the_job(server: Server) -> None:
    events = await deferToThread(lambda: list(unix_events(server.path, "a job&=/ü")))
    assert events == [{"job": "a job&=/ü", "number": number} for number in range(3)]
    events = await deferToThread(lambda: list(unix_events(server.path)))
    assert [event["job"] for event in events] == [None] * 3


@pytest_twisted.ensureDeferred
async def test_an_unknown_job_is_refused(server: Server) -> None:
    with pytest.raises(RpcError) as caught:
        await deferToThread(lambda: list(unix_events(server.path, "unknown")))
    assert caught.value.reason == "unknown_job"


@pytest_twisted.ensureDeferred
async def test_a_failing_source_shows_an_incident(server: Server) -> None:
    def read() -> tuple[int, RpcError]:
        count = 0
        try:
            for _ in unix_events(server.path, "broken"):
                count += 1
        except RpcError as error:
            return count, error
        raise AssertionError("no error")

    count, error = await deferToThread(read)
    assert (count, error.code) == (3, -32603)
    assert "hunter2" not in str(error.to_wire()) and error.data["incident"]


@pytest_twisted.ensureDeferred
async def test_disconnecting_ends_the_source(server: Server) -> None:
    def read_one() -> Any:
        events = cast(Generator[Any, None, None], unix_events(server.path, "endless"))
        first = next(events)
        events.close()
        return first

    assert (await deferToThread(read_one))["number"] == 0
    await until(lambda: server.cancelled == 1)


@pytest_twisted.ensureDeferred
async def test_idle_connections_are_closed_and_waiting_ones_are_not(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_server, "IDLE_S", 0.1)
    server = Server(directory)

    def idle() -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
            plain.settimeout(20)
            plain.connect(str(server.path))
            return plain.recv(1)

    assert await deferToThread(idle) == b""
    with pytest.raises(RpcError) as caught:
        await deferToThread(unix_call, server.path, "hang")
    # 0.3 s on an idle machine, and as many times longer as this one is slow
    assert re.fullmatch(r"hang did not finish in [\d.]+ s", caught.value.message)
    await server.port.stopListening()


# ---- the socket's path ----


@pytest_twisted.ensureDeferred
async def test_the_socket_of_a_dead_process_is_replaced_and_that_of_a_live_one_is_not(
    directory: Path,
) -> None:
    path = directory / "s.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    methods = MethodTable("t", "1")
    port: Any = listen_unix(reactor, path, methods, authorize=root_and_group("x"))
    assert await deferToThread(unix_call, path, "rpc.ping") == {}
    assert path.stat().st_mode & 0o777 == 0o660
    with pytest.raises(OSError, match="another process"):
        listen_unix(reactor, path, methods, authorize=root_and_group("x"))
    assert await deferToThread(unix_call, path, "rpc.ping") == {}
    await port.stopListening()
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        listen_unix(reactor, path, methods, authorize=root_and_group("x"))
    assert path.read_text() == "precious"


@pytest_twisted.ensureDeferred
async def test_an_inherited_descriptor_is_served(directory: Path) -> None:
    path = directory / "inherited.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as inherited:
        inherited.bind(str(path))
        inherited.listen()
        inherited.setblocking(False)
        port: Any = listen_unix(
            reactor, inherited.fileno(), MethodTable("t", "1"), authorize=root_and_group("x")
        )
        assert await deferToThread(unix_call, path, "rpc.ping") == {}
        await port.stopListening()


def test_a_socket_without_a_listener_is_reported(directory: Path) -> None:
    with pytest.raises(RpcError) as caught:
        unix_call(directory / "none.sock", "ping")
    assert caught.value.code == -32002 and "start the service" in caught.value.hint

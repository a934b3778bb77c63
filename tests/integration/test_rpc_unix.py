# SPDX-License-Identifier: Apache-2.0
"""The operators' socket: blocking client, curl, batches, events, limits and refused callers."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from integration.unix_socket_lab import Server, directory, http_request, post, server
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Caller, MethodTable
from systemvm.rpc.http import unix_server
from systemvm.rpc.http.unix import listen_unix, root_and_group, root_only, unix_call, unix_events
from systemvm.wire.agent import Ping, Pong

__all__ = ["directory", "server"]  # fixtures


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
    argv = ["curl", "-sS", "--max-time", "120", "--unix-socket", str(server.path)]
    done = await deferToThread(
        subprocess.run,
        [*argv, "-d", json.dumps(message), "http://localhost/rpc"],
        capture_output=True,
        timeout=180,
        check=True,
    )
    assert json.loads(done.stdout)["result"]["clock_unix_s"] == 2.0
    done = await deferToThread(
        subprocess.run,
        [*argv, "-N", "http://localhost/events?job=j"],
        capture_output=True,
        timeout=180,
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
        plain.settimeout(120)
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
    argv = ["curl", "-sS", "--max-time", "120", "--unix-socket", str(path), "-o", "/dev/null"]
    argv += ["-w", "%{http_code}", "-d", '{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}', "http://x/rpc"]
    for user, status in ((0, b"200"), (65534, b"403")):
        done = await deferToThread(
            subprocess.run,
            argv,
            capture_output=True,
            timeout=180,
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


@pytest_twisted.ensureDeferred
async def test_idle_connections_are_closed_and_waiting_ones_are_not(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_server, "IDLE_S", 0.1)
    server = Server(directory)

    def idle() -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
            plain.settimeout(120)
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
        # systemd keeps the socket for the service's next start
        again: Any = listen_unix(
            reactor, inherited.fileno(), MethodTable("t", "1"), authorize=root_and_group("x")
        )
        assert await deferToThread(unix_call, path, "rpc.ping") == {}
        await again.stopListening()


def test_a_socket_without_a_listener_is_reported(directory: Path) -> None:
    with pytest.raises(RpcError) as caught:
        unix_call(directory / "none.sock", "ping")
    assert caught.value.code == -32002 and "start the service" in caught.value.hint

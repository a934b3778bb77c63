# SPDX-License-Identifier: Apache-2.0
"""Golden frames between agents and daemons, from protocol 1 on.

Each line of golden/*.frames is a frame: `>` marks a frame of the agent, `<` one of the daemon. An older guest
image can connect to a newer daemon, so both must parse these lines and send every member in them. A new
version can add members; it must not change or remove any.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from systemvm.rpc.core import frame
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.message import Request, Response, read
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.wire import agent, role, storage
from systemvm.wire.acknowledgement import Acknowledgement

GOLDEN = Path(__file__).parent / "golden"
AGENT, DAEMON = "> ", "< "

HELLO = agent.Hello(
    protocol_version=1,
    name="s-1-VM",
    role="ssvm",
    agent_version="0.1.0",
    image_version="0.1.0",
    image_sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    boot_id="0b1c9e1e-7c1b-4a57-9c5f-0d6a3a8f6b11",
    clock_unix_s=1760000000.5,
    host_keys=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample root@s-1-VM"],
)
WELCOME = agent.Welcome(
    protocol_version=1,
    host_uuid="c7b1f2f4-9a54-4a0c-8c7e-2f6a1f0f8d55",
    clock_unix_s=1760000001.25,
    ping_interval_s=10.0,
)
DOWNLOAD = storage.DownloadRequest(
    job_id="5d3b4d8e-0a6f-4f5c-8f3e-3a2a3f1d9c01",
    request_id="req-1",
    template_id=203,
    account_id=2,
    unique_name="203-2-c0ffee",
    description="A small Linux",
    url="http://images.example.test/tiny.qcow2.gz",
    format=storage.ImageFormat.QCOW2,
    store=storage.Store(server="10.12.0.2", path="/export/secondary"),
    max_size_bytes=53687091200,
    checksum="{SHA-256}9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
)
STARTED = storage.DownloadStatus(
    job_id=DOWNLOAD.job_id, state=storage.DownloadState.DOWNLOAD_IN_PROGRESS, total_bytes=1048576
)
HALF = evolve(STARTED, received_bytes=524288)
FINISHED = storage.DownloadStatus(
    job_id=DOWNLOAD.job_id,
    state=storage.DownloadState.DOWNLOADED,
    received_bytes=1048576,
    total_bytes=1048576,
    install_path="template/tmpl/2/203/c0ffee.qcow2",
    physical_size_bytes=2097152,
    virtual_size_bytes=1073741824,
    checksum=DOWNLOAD.checksum,
)
FAILED = storage.DownloadStatus(
    job_id=DOWNLOAD.job_id,
    state=storage.DownloadState.DOWNLOAD_ERROR,
    error=storage.DownloadError("not_found", "the server answered 404", "check the URL"),
)
Params = dict[str, Any]


def lines(name: str) -> list[tuple[str, bytes]]:
    """Return the frames of one file, each with the mark of its sender."""
    read_lines = (GOLDEN / name).read_bytes().splitlines()
    return [(line[:2].decode(), line[2:]) for line in read_lines if not line.startswith(b"#")]


def contains(sent: Any, golden: Any) -> bool:
    """Return whether `sent` has all that `golden` has; an object can have more members."""
    if isinstance(golden, dict):
        return isinstance(sent, dict) and all(
            name in sent and contains(sent[name], value) for name, value in golden.items()
        )
    if isinstance(sent, list) and isinstance(golden, list):
        return len(sent) == len(golden) and all(map(contains, sent, golden))
    return type(sent) is type(golden) and bool(sent == golden)


class Channel:
    """A channel that records what a peer sends."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, line: bytes, *, replaces: str | None = None, may_drop: bool = False) -> None:
        self.sent.append(line[:-1])

    def disconnect(self, why: str) -> None:
        raise AssertionError(f"closed: {why}")


def replay(name: str, sender: str, peer: Peer, channel: Channel, act: Callable[[int], None]) -> None:
    """Play one end of a conversation: feed it the frames of the other end, and compare each frame it sends.

    `act` is called before each frame of this end, with its index in the file, so that it can begin a call.
    """
    for place, (mark, line) in enumerate(lines(name)):
        if mark == sender:
            act(place)
            assert contains(frame.decode(channel.sent.pop(0)), frame.decode(line)), (
                f"{name}, frame {place + 1}"
            )
        else:
            assert channel.sent == [], f"{name}: more was sent before frame {place + 1}"
            peer.data_received(line + b"\n")
    assert channel.sent == []


def ends(methods: MethodTable, remote: Caller) -> tuple[Peer, Channel]:
    channel = Channel()
    return Peer(remote, methods, Clock(), channel), channel


def end_of_daemon(seen: list[Any]) -> tuple[Peer, Channel]:
    """Return the daemon's end of a connection to an SSVM; parameters of calls are appended to `seen`."""
    return ends(_daemon_table(seen), Caller("s-1-VM", "ssvm"))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("rpc_*.frames")), ids=lambda path: path.name)
def test_every_golden_frame_is_parsed_within_the_limits(path: Path) -> None:
    marked = lines(path.name)
    assert marked
    for mark, line in marked:
        assert mark in (AGENT, DAEMON)
        if path.name not in ("rpc_errors.frames", "rpc_errors_v3.frames"):
            assert isinstance(read(frame.decode(line)), Request | Response)


def _agent_table() -> MethodTable:
    async def ping(call: Call, params: agent.Ping) -> agent.Pong:
        return agent.Pong(params.sent_unix_s, 1760000002.0)

    async def download(call: Call, params: storage.DownloadRequest) -> storage.DownloadStatus:
        assert (params, call.request_id) == (DOWNLOAD, "req-1")
        return STARTED

    table = MethodTable("agent", "1")
    callers = frozenset({role.Role.MANAGEMENT.value})
    table.add(agent.PING, ping, params=agent.Ping, result=agent.Pong, roles=callers)
    table.add(
        storage.TEMPLATE_DOWNLOAD,
        download,
        params=storage.DownloadRequest,
        result=storage.DownloadStatus,
        roles=callers,
    )
    return table


def _daemon_table(seen: list[Any]) -> MethodTable:
    async def hello(call: Call, params: agent.Hello) -> agent.Welcome:
        seen.append(params)
        return WELCOME

    async def ping(call: Call, params: agent.Ping) -> agent.Pong:
        return agent.Pong(params.sent_unix_s, 1760000002.0)

    async def status(call: Call, params: storage.DownloadStatus) -> Acknowledgement:
        seen.append(params)
        return Acknowledgement()

    async def refuse(call: Call, params: None) -> None:
        raise RpcError.refused("no_room", "no room on the store", "delete something")

    async def closed(call: Call, params: None) -> None:
        raise AssertionError("never called")

    table = MethodTable("daemon", "1")
    callers = frozenset({role.Role.SSVM.value})
    table.add(agent.HELLO, hello, params=agent.Hello, result=agent.Welcome, roles=callers)
    table.add(agent.PING, ping, params=agent.Ping, result=agent.Pong, roles=callers)
    for name in (storage.TEMPLATE_PROGRESS, storage.TEMPLATE_FINISHED):
        table.add(name, status, params=storage.DownloadStatus, result=Acknowledgement, roles=callers)
    table.add("refuse", refuse, params=None, result=None, roles=callers)
    table.add("cpvm.only", closed, params=None, result=None, roles=frozenset({role.Role.CPVM.value}))
    return table


def _begin(results: list[Any], coroutine: Any) -> None:
    Deferred.fromCoroutine(coroutine).addBoth(results.append)


def test_agent_sends_hello_of_protocol_1() -> None:
    peer, channel = ends(_agent_table(), Caller("host-1", "management"))
    results: list[Any] = []
    replay(
        "rpc_hello.frames",
        AGENT,
        peer,
        channel,
        lambda place: _begin(
            results, peer.call(agent.HELLO, HELLO, result=agent.Welcome, request_id="req-hello")
        ),
    )
    assert results == [WELCOME]


def test_daemon_answers_hello_of_protocol_1() -> None:
    seen: list[Any] = []
    peer, channel = ends(_daemon_table(seen), Caller("s-1-VM", "ssvm"))
    replay("rpc_hello.frames", DAEMON, peer, channel, lambda place: None)
    assert seen == [HELLO]


def test_both_ends_send_and_answer_pings() -> None:
    results: list[Any] = []
    for sender, methods in ((AGENT, _agent_table()), (DAEMON, _daemon_table([]))):
        peer, channel = ends(methods, Caller("x", "management" if sender == AGENT else "ssvm"))
        own = [
            place
            for place, (mark, line) in enumerate(lines("rpc_ping.frames"))
            if mark == sender and b'"method":"ping"' in line
        ]

        def act(place: int, peer: Peer = peer, own: list[int] = own) -> None:
            if place in own:
                call = peer.call(
                    agent.PING, agent.Ping(1760000001.0), result=agent.Pong, request_id="req-ping"
                )
                _begin(results, call)

        replay("rpc_ping.frames", sender, peer, channel, act)
    assert results == [agent.Pong(1760000001.0, 1760000002.0)] * 2


def test_agent_sends_the_download_status() -> None:
    peer, channel = ends(_agent_table(), Caller("host-1", "management"))
    results: list[Any] = []

    def act(place: int) -> None:
        if place == 2:
            peer.notify(storage.TEMPLATE_PROGRESS, HALF)
        elif place in (3, 5):
            status = FINISHED if place == 3 else FAILED
            call = peer.call(storage.TEMPLATE_FINISHED, status, result=Acknowledgement, request_id="req-1")
            _begin(results, call)

    replay("rpc_download.frames", AGENT, peer, channel, act)
    assert results == [Acknowledgement(), Acknowledgement()]


def test_daemon_reads_the_download_status() -> None:
    seen: list[Any] = []
    peer, channel = ends(_daemon_table(seen), Caller("s-1-VM", "ssvm"))
    results: list[Any] = []

    def act(place: int) -> None:
        if place == 0:
            call = peer.call(
                storage.TEMPLATE_DOWNLOAD, DOWNLOAD, result=storage.DownloadStatus, request_id="req-1"
            )
            _begin(results, call)

    replay("rpc_download.frames", DAEMON, peer, channel, act)
    assert results == [STARTED]
    assert seen == [HALF, FINISHED, FAILED]


def test_errors_have_their_recorded_shape() -> None:
    """Messages can change; codes, ids and members must not."""
    peer, channel = ends(_daemon_table([]), Caller("s-1-VM", "ssvm"))
    for mark, line in lines("rpc_errors.frames"):
        if mark == AGENT:
            assert channel.sent == []
            peer.data_received(line + b"\n")
            continue
        wanted, got = msgspec.json.decode(line), msgspec.json.decode(channel.sent.pop(0))
        assert list(got) == list(wanted)
        assert (got["id"], got["error"]["code"]) == (wanted["id"], wanted["error"]["code"])
        reason = wanted["error"].get("data", {}).get("reason")
        # protocol 3 adds a reason to every error, which older ends ignore
        assert reason in (None, got["error"].get("data", {}).get("reason"))
    assert channel.sent == []


def test_unknown_members_of_a_later_version_are_ignored() -> None:
    peer, channel = ends(_daemon_table([]), Caller("s-1-VM", "ssvm"))
    (_, line), _ = lines("rpc_hello.frames")
    message = msgspec.json.decode(line)
    message["trace"] = "x"
    message["params"]["gpu"] = {"count": 1}
    peer.data_received(frame.encode(message))
    (answer,) = channel.sent
    assert msgspec.json.decode(answer)["result"]["ping_interval_s"] == 10.0

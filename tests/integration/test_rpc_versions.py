# SPDX-License-Identifier: Apache-2.0
"""Agents of other protocol versions on a real control channel: old ones work, unsupported ones are alerts."""

from __future__ import annotations

import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from integration.control_lab import World, world  # noqa: F401  (a fixture)
from rpc_wait import until
from systemvm.management.pki.control import ControlAuthority
from systemvm.management.state.status import AgentState
from systemvm.rpc.core.errors import NOT_CONNECTED, RpcError
from systemvm.wire import protocol, storage
from systemvm.wire.agent import HEALTH, Health
from systemvm.wire.role import Role

GOLDEN = Path(__file__).parents[1] / "contract" / "golden"


class OldAgent:
    """A client that sends recorded frames over a TLS socket of the standard library."""

    def __init__(self, port: int, authority: ControlAuthority) -> None:
        identity = authority.bootstrap("s-1-VM", Role.SSVM)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=authority.ca_pem.decode())
        with tempfile.NamedTemporaryFile() as bundle:
            bundle.write(identity.certificate_pem + identity.private_key_pem)
            bundle.flush()
            context.load_cert_chain(bundle.name)
        raw = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._tls = context.wrap_socket(raw, server_hostname="management.systemvm")
        self._lines = self._tls.makefile("rb")

    def send(self, line: bytes) -> None:
        self._tls.sendall(line + b"\n")

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = msgspec.json.decode(self._lines.readline())
        return message

    def close(self) -> None:
        self._lines.close()
        self._tls.close()


def frames(name: str) -> list[tuple[str, bytes]]:
    return [(line[:1].decode(), line[2:]) for line in (GOLDEN / name).read_bytes().splitlines()]


def _matches(sent: Any, golden: Any) -> bool:
    """Return whether the message has every member of the golden frame, with a value of the same type."""
    if isinstance(golden, dict):
        return isinstance(sent, dict) and all(_matches(sent.get(name), golden[name]) for name in golden)
    return type(sent) is type(golden)


@pytest_twisted.ensureDeferred
async def test_an_agent_of_the_first_release_comes_up_and_downloads(world: World) -> None:  # noqa: F811
    assert protocol.OLDEST == 1, "the golden frames are of version 1"
    agent = await deferToThread(OldAgent, world.port, world.authority)
    try:
        (_, hello), (_, welcome) = frames("rpc_hello.frames")
        agent.send(hello)
        answer = await deferToThread(agent.receive)
        assert _matches(answer, msgspec.json.decode(welcome))
        assert answer["result"]["protocol_version"] == 1
        await until(lambda: world.ssvm.is_up)
        assert not world.ssvm.has_listings, "version 1 has no listings"
        conversation = frames("rpc_download.frames")
        order = msgspec.json.decode(conversation[0][1])
        request = msgspec.convert(order["params"], storage.DownloadRequest)
        calling = Deferred.fromCoroutine(
            world.directory.call(
                "s-1-VM",
                storage.TEMPLATE_DOWNLOAD,
                request,
                result=storage.DownloadStatus,
                request_id="req-1",
            )
        )
        sent = await deferToThread(agent.receive)
        assert _matches(sent, order)
        assert sent["params"]["job_id"] == order["params"]["job_id"]
        reply = msgspec.json.decode(conversation[1][1])
        agent.send(msgspec.json.encode({**reply, "id": sent["id"]}))
        assert (await calling).state is storage.DownloadState.DOWNLOAD_IN_PROGRESS
    finally:
        agent.close()


@pytest_twisted.ensureDeferred
async def test_an_agent_of_protocol_2_comes_up(world: World) -> None:  # noqa: F811
    agent = await deferToThread(OldAgent, world.port, world.authority)
    try:
        (_, hello), (_, welcome) = frames("rpc_hello_v2.frames")
        agent.send(hello)
        answer = await deferToThread(agent.receive)
        assert _matches(answer, msgspec.json.decode(welcome))
        assert answer["result"]["protocol_version"] == 2
        await until(lambda: world.ssvm.is_up)
        assert world.ssvm.has_listings
    finally:
        agent.close()


@pytest_twisted.ensureDeferred
async def test_a_daemon_of_protocol_2_accepts_a_newer_agent_that_repeats_hello(
    world: World,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "CURRENT", 2)
    agent = await deferToThread(OldAgent, world.port, world.authority)
    try:
        for mark, line in frames("rpc_hello_again_v3.frames"):
            if mark == ">":
                agent.send(line)
                continue
            answer = await deferToThread(agent.receive)
            assert _matches(answer, msgspec.json.decode(line))
            assert answer["result"]["protocol_version"] == 2
        await until(lambda: world.ssvm.is_up)
        assert world.ssvm.hello is not None
        assert world.ssvm.hello.protocol_version == 2
    finally:
        agent.close()


@pytest.mark.parametrize(
    ("version", "reason", "hint"),
    [
        (protocol.OLDEST - 1, "is too old", "systemvm system-vm patch s-1-VM"),
        (protocol.CURRENT + 1, "is newer than this daemon", "upgrade the management daemon"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_unsupported_version_is_an_alert_and_its_channel_stays_open(
    world: World,  # noqa: F811
    version: int,
    reason: str,
    hint: str,
) -> None:
    prepared: list[str] = []

    async def prepare(agent: Any) -> None:
        prepared.append(agent.name)

    world.directory.prepare(Role.SSVM, prepare)
    agent = world.agent(protocol_version=version)
    await until(lambda: world.ssvm.status.state is AgentState.ALERT)
    assert world.ssvm.status.reason.startswith(reason)
    assert hint in world.ssvm.status.hint
    assert "destroy s-1-VM" in world.ssvm.status.hint
    assert prepared == []
    assert world.directory.up(Role.SSVM) == []
    # only calls for supervision and patching are possible, in both directions
    assert (await world.directory.call("s-1-VM", HEALTH, result=Health)).uptime_s == 1.0
    with pytest.raises(RpcError) as kept:
        await world.directory.call("s-1-VM", storage.STORAGE_STATS, storage.Store("10.12.0.2", "/x"))
    assert kept.value.code == NOT_CONNECTED
    assert reason in kept.value.message
    await until(lambda: agent.dialer.peer is not None)
    assert agent.dialer.peer is not None
    done = storage.DownloadStatus("j", storage.DownloadState.DOWNLOADED)
    world.channel._methods.add(
        storage.TEMPLATE_FINISHED,
        prepare,  # type: ignore[arg-type]
        params=storage.DownloadStatus,
        result=None,
        roles=frozenset({"ssvm"}),
    )
    with pytest.raises(RpcError) as refused:
        await agent.dialer.peer.call(storage.TEMPLATE_FINISHED, done)
    assert refused.value.reason == "protocol-version"
    assert prepared == []

# SPDX-License-Identifier: Apache-2.0
"""A recording from the console to the player: both agents' real processes, and the daemon's services between.

The daemon is a small cloud: a real database and API, whose calls reach the agents by real connections.
"""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import pytest_twisted
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet import reactor, task, threads
from twisted.internet.defer import Deferred

from console_tokens import add_vm
from integration.cpvm_lab import small_daemon
from integration.cpvm_lab.console_process import ConsoleProcess
from integration.cpvm_lab.small_daemon import Cpvm, PublicCertificate
from integration.cpvm_lab.vnc_server import FakeVncServer, exactly, shake_hands
from integration.cpvm_lab.wire import Connection, open_console
from integration.ssvm_lab import daemon as ssvm_side
from integration.ssvm_lab.fixtures import daemon, world
from integration.ssvm_lab.world import World
from small_cloud import SmallCloud
from small_cloud.fixtures import cloud, pristine
from systemvm.cli.recorded_terminal import plain_text
from systemvm.recording.format import FrameKind, RecordingKind
from systemvm.recording.reader import RecordingReader
from systemvm.rpc.core.method import Call
from systemvm.wire import console
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.recording import (
    CONSOLE_RECORD,
    CONSOLE_RECORDED,
    CONSOLE_RECORDER,
    RECORDING_APPEND,
    RECORDING_DELETE,
    RECORDING_READ,
    RecordedEnd,
    RecordedPiece,
    RecordingContent,
    StoredSize,
)
from unit.cpvm.recording.recorded_updates import REQUEST, SCREEN, update

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["cloud", "daemon", "pristine", "world"]  # fixtures


class CloudForCpvm(small_daemon.Daemon):
    """Has a small cloud answer what a CPVM and its recorder ask."""

    def __init__(self, cloud: SmallCloud) -> None:
        self._cloud = cloud
        super().__init__()
        for name, params, result in (
            (CONSOLE_RECORD, RecordedPiece, Acknowledgement),
            (CONSOLE_RECORDED, RecordedEnd, Acknowledgement),
            (console.CONSOLE_SCROLLBACK, console.ConsoleTargetRequest, console.ConsoleScrollback),
        ):
            self.methods.add(name, self._forward(name), params=params, result=result, roles=small_daemon.CPVM)
        self.methods.add(
            CONSOLE_RECORDER, self._recorder, params=None, result=Acknowledgement, roles=small_daemon.CPVM
        )

    def _forward(self, name: str) -> Any:
        async def forwarded(call: Call, params: Any) -> Any:
            return await self._cloud.from_agent(self._cloud.cpvm, name, msgspec.to_builtins(params))

        return forwarded

    async def _recorder(self, call: Call, params: None) -> Acknowledgement:
        return Acknowledgement()

    async def _authorize(self, call: Call, request: console.ConsoleAuthorize) -> console.ConsoleSession:
        return cast(console.ConsoleSession, await self._forward(console.CONSOLE_AUTHORIZE)(call, request))

    async def _target(self, call: Call, request: console.ConsoleTargetRequest) -> console.ConsoleTarget:
        return cast(console.ConsoleTarget, await self._forward(console.CONSOLE_TARGET)(call, request))


class SerialPort(FakeVncServer):
    """Echoes behind TLS, as the chardev of a machine whose guest echoes."""

    def __init__(self) -> None:
        issued = trustme.CA().issue_cert("127.0.0.1")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(self._context)
        certificate = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
        self.fingerprint = sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
        super().__init__(self._echo)

    def _echo(self, plain: socket.socket) -> None:
        with self._context.wrap_socket(plain, server_side=True) as port:
            port.sendall(b"\x1b[1mlogin:\x1b[0m ")
            while data := port.recv(4096):
                port.sendall(data)


def show(screen: socket.socket) -> None:
    shake_hands(screen, SCREEN.encode("guest"))
    exactly(screen, len(REQUEST))
    screen.sendall(update(7))
    screen.recv(1)


@pytest.fixture
def cpvm(cloud: SmallCloud, tmp_path: Path) -> Iterator[Cpvm]:
    assert cloud.cpvm.instance_name == small_daemon.NAME
    answering = CloudForCpvm(cloud)
    pytest_twisted.blockon(Deferred.fromCoroutine(answering.start()))
    cpvm = Cpvm(tmp_path / "cpvm", answering)
    try:
        peer = pytest_twisted.blockon(answering.hellos.get().addTimeout(240, reactor))
        setup = PublicCertificate(cpvm).setup
        calling = peer.call(console.CONSOLE_SETUP, setup, result=Acknowledgement)
        pytest_twisted.blockon(Deferred.fromCoroutine(calling))
        yield cpvm
    finally:
        pytest_twisted.blockon(threads.deferToThread(cpvm.close))
        pytest_twisted.blockon(answering.listening.stopListening())


def received(connection: Connection, end: bytes) -> bytes:
    """Return what the console shows until it ends with `end`."""
    data = b""
    while not data.endswith(end):
        opcode, payload = connection.frame()
        data += payload if opcode == 2 else b""
    return data


def use_serial_port(cpvm: Cpvm, token: str) -> bytes:
    connection = open_console(cast(ConsoleProcess, cpvm), token)
    shown = received(connection, b"\x1b[0m ")
    connection.send_frame(2, b"root\r\n")
    shown += received(connection, b"root\r\n")
    connection.close()
    return shown


def look_at_screen(cpvm: Cpvm, token: str) -> bytes:
    connection = open_console(cast(ConsoleProcess, cpvm), token)
    connection.greet()
    connection.send_frame(2, REQUEST)
    shown = received(connection, update(7))
    connection.close()
    return shown


async def complete(cloud: SmallCloud, kind: str) -> dict[str, Any]:
    """Return the only recording of a kind when it has ended."""
    while True:
        found = await cloud.call("listConsoleRecordings", kind=kind, state="Complete")
        if found:
            [row] = found["consolerecording"]
            return dict(row)
        await task.deferLater(reactor, 0.1)


async def file_of(cloud: SmallCloud, recording_id: str) -> bytes:
    data = b""
    while True:
        answer = await cloud.call("readConsoleRecording", id=recording_id, offset=len(data))
        part = base64.b64decode(answer["consolerecordingcontent"]["data"])
        if not part:
            return data
        data += part


def opened(file: bytes, key: bytes) -> RecordingReader:
    return RecordingReader(lambda offset, count: file[offset : offset + count], len(file), key)


@pytest_twisted.ensureDeferred
async def test_screen_and_serial_port_are_recorded_stored_played_and_deleted(
    cloud: SmallCloud, cpvm: Cpvm, world: World, daemon: ssvm_side.Daemon
) -> None:
    stored = cloud.ssvm_peer.answers
    stored[RECORDING_APPEND] = lambda piece: daemon.call(RECORDING_APPEND, piece, StoredSize)
    stored[RECORDING_READ] = lambda wanted: daemon.call(RECORDING_READ, wanted, RecordingContent)
    stored[RECORDING_DELETE] = lambda place: daemon.call(RECORDING_DELETE, place, Acknowledgement)
    screen, port = FakeVncServer(show), SerialPort()
    vm = cloud.update_instance(
        add_vm(cloud, "web", screen.port),
        vnc_address="127.0.0.1",
        sealed_vnc_password=None,
        serial_port=port.port,
        serial_fingerprint=port.fingerprint,
    )
    await cloud.call("setConsoleRecordingRule", record="required", virtualmachineid=vm.uuid)
    await cloud.call("updateConfiguration", name="consoleproxy.recording.encryption.enabled", value="true")

    for kind, use in (("screen", look_at_screen), ("serial", use_serial_port)):
        link = await cloud.call("createConsoleEndpoint", virtualmachineid=vm.uuid, kind=kind)
        token = link["consoleendpoint"]["websocket"]["token"]
        shown = await threads.deferToThread(use, cpvm, token)
        row = await complete(cloud, kind)
        assert (row["virtualmachinename"], row["endcode"], row["encrypted"]) == ("web", "complete", True)
        path = world.store / f"console-recordings/{vm.account_id}/{row['id']}.svrec"
        file = await file_of(cloud, row["id"])
        assert file == path.read_bytes() and len(file) == row["size"]
        access = await cloud.call("openConsoleRecording", id=row["id"])
        key = bytes.fromhex(access["consolerecordingaccess"]["key"])
        reader = opened(file, key)
        assert reader.is_ended and reader.header.kind is RecordingKind(kind)
        played = b"".join(frame.content for frame in reader.play() if frame.kind is FrameKind.SERVER)
        assert played == shown
        if kind == "serial":
            assert "".join(plain_text(reader)) == "login: root\n"
        await cloud.call("deleteConsoleRecording", id=row["id"])
        assert not path.exists()
    screen.close()
    port.close()

# SPDX-License-Identifier: Apache-2.0
"""The daemon's listener against real clients on loopback: a valid one, and clients to refuse.

The clients to refuse use the standard library's `ssl`, and none of the project's code.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from rpc_pki import CLIENT, HOUR, SERVER, TestAuthority
from rpc_wait import until
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.rpc.core.peer import Peer
from systemvm.rpc.stream import secure_transport
from systemvm.rpc.stream.listener import BOUNDS, listen
from systemvm.rpc.tls.identity import Identity
from systemvm.rpc.tls.refusal import Refusal
from systemvm.wire.agent import Ping, Pong
from systemvm.wire.control_failure import ControlFailure

AUTHORITY = TestAuthority()
OTHER_CA = TestAuthority()
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"sent_unix_s":1.0}}\n'


class Daemon:
    """A listener, and a record of its clients."""

    def __init__(self) -> None:
        self.identity = AUTHORITY.daemon()
        self.connected: list[Peer] = []
        self.lost: list[str] = []
        self.refused: list[Refusal] = []
        self.handled = 0
        self.methods = MethodTable("daemon", "1")
        self.methods.add("ping", self._ping, params=Ping, result=Pong, roles=frozenset({"ssvm"}))
        self.port: Any = None

    async def start(self) -> None:
        self.port = await listen(
            reactor,
            lambda: self.identity,
            self.methods,
            interface="127.0.0.1",
            port=0,
            known=self._known,
            on_connected=self.connected.append,
            on_lost=lambda peer, why: self.lost.append(why),
            on_refused=lambda address, refusal: self.refused.append(refusal),
        )

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port.getHost().port

    async def stop(self) -> None:
        await self.port.stopListening()
        for peer in self.connected:
            peer.close("the test is over")
        await until(lambda: len(self.lost) == len(self.connected))

    async def _ping(self, call: Call, params: Ping) -> Pong:
        self.handled += 1
        return Pong(params.sent_unix_s, 2.0)

    @staticmethod
    def _known(caller: Caller) -> None:
        if caller.name == "s-99-VM":
            raise RpcError.refused("unknown", "no such system VM")


@pytest_twisted.async_yield_fixture
async def daemon() -> Any:
    started = Daemon()
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def client_context(directory: Path, identity: Identity | None) -> ssl.SSLContext:
    """Return the context of a client that accepts any server, and presents `identity` if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        path = directory / "client.pem"
        path.write_bytes(identity.private_key_pem + identity.certificate_pem)
        context.load_cert_chain(path)
    return context


def exchange(
    address: tuple[str, int], context: ssl.SSLContext, data: bytes, source: str = "127.0.0.1"
) -> bytes:
    """Send, and return a line or what comes before the end.

    Raises: OSError, also as ssl.SSLError, when the server refuses.
    """
    with socket.create_connection(address, timeout=20, source_address=(source, 0)) as plain:
        with context.wrap_socket(plain) as secure:
            secure.sendall(data)
            received = b""
            while b"\n" not in received and (more := secure.recv(65536)):
                received += more
            return received


async def refused(daemon: Daemon, context: ssl.SSLContext) -> None:
    """Assert that the client gets no response, and that the daemon has neither a peer nor a call."""
    try:
        received = await deferToThread(exchange, daemon.address, context, PING)
    except OSError:
        received = b""
    assert received == b""
    assert daemon.connected == [] and daemon.handled == 0


@pytest_twisted.ensureDeferred
async def test_an_agent_is_known_by_its_certificate_and_answered(daemon: Daemon, directory: Path) -> None:
    context = client_context(directory, AUTHORITY.agent("s-7-VM"))
    answer = json.loads(await deferToThread(exchange, daemon.address, context, PING))
    assert answer["result"] == {"sent_unix_s": 1.0, "clock_unix_s": 2.0}
    assert daemon.connected[0].caller == Caller("s-7-VM", "ssvm")
    await until(lambda: bool(daemon.lost))


@pytest_twisted.ensureDeferred
async def test_a_client_without_a_certificate_is_refused(daemon: Daemon, directory: Path) -> None:
    await refused(daemon, client_context(directory, None))


BAD_AGENTS = {
    "another CA": OTHER_CA.agent(),
    "expired": AUTHORITY.issue(
        ["s-1-vm.ssvm.systemvm"], [CLIENT], begins=-2 * HOUR, ends=-datetime.timedelta(minutes=1)
    ),
    "not yet valid": AUTHORITY.issue(["s-1-vm.ssvm.systemvm"], [CLIENT], begins=HOUR, ends=2 * HOUR),
    "wrong name": AUTHORITY.issue(["s-1-vm.ssvm.example"], [CLIENT]),
    "no name": AUTHORITY.issue([], [CLIENT]),
    "two names": AUTHORITY.issue(["s-1-vm.ssvm.systemvm", "v-2-vm.cpvm.systemvm"], [CLIENT]),
    "wrong role": AUTHORITY.issue(["r-1-vm.router.systemvm"], [CLIENT]),
    "a daemon's name": AUTHORITY.issue(["management.systemvm"], [CLIENT]),
    "a daemon's certificate": AUTHORITY.daemon(),
    "an agent's name for servers": AUTHORITY.issue(["s-1-vm.ssvm.systemvm"], [SERVER]),
    "an agent's name for both": AUTHORITY.issue(["s-1-vm.ssvm.systemvm"], [CLIENT, SERVER]),
    "an agent's name for anything": AUTHORITY.issue(["s-1-vm.ssvm.systemvm"], []),
    "not known": AUTHORITY.agent("s-99-VM"),
}


@pytest.mark.parametrize("what", BAD_AGENTS)
@pytest_twisted.ensureDeferred
async def test_a_client_with_a_bad_certificate_is_refused(daemon: Daemon, directory: Path, what: str) -> None:
    await refused(daemon, client_context(directory, BAD_AGENTS[what]))


@pytest_twisted.ensureDeferred
async def test_tls_1_2_is_refused(daemon: Daemon, directory: Path) -> None:
    context = client_context(directory, AUTHORITY.agent())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):
        await deferToThread(exchange, daemon.address, context, PING)
    assert daemon.connected == []


@pytest.mark.parametrize(
    "garbage", [PING, b"GET / HTTP/1.1\r\n\r\n", bytes(100_000), b"\x16\x03\x01\xff\xff"]
)
@pytest_twisted.ensureDeferred
async def test_plain_bytes_are_refused(daemon: Daemon, garbage: bytes) -> None:
    def send_plain() -> bytes:
        with socket.create_connection(daemon.address, timeout=20) as plain:
            received = b""
            try:
                plain.sendall(garbage)
                plain.shutdown(socket.SHUT_WR)
                while more := plain.recv(65536):
                    received += more
            except OSError:
                pass
            return received

    received = await deferToThread(send_plain)
    assert b"jsonrpc" not in received
    assert daemon.connected == [] and daemon.handled == 0


@pytest_twisted.ensureDeferred
async def test_a_client_without_a_handshake_is_disconnected(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secure_transport, "HANDSHAKE_TIMEOUT_S", 0.2)

    def wait() -> bytes:
        with socket.create_connection(daemon.address, timeout=20) as plain:
            try:
                return plain.recv(1)
            except ConnectionResetError:
                return b""

    assert await deferToThread(wait) == b""


@pytest_twisted.ensureDeferred
async def test_no_session_is_resumed(daemon: Daemon, directory: Path) -> None:
    context = client_context(directory, AUTHORITY.agent())

    def reused(session: ssl.SSLSession | None) -> tuple[bool | None, ssl.SSLSession | None]:
        with socket.create_connection(daemon.address, timeout=20) as plain:
            with context.wrap_socket(plain, session=session) as secure:
                secure.sendall(PING)
                assert b"result" in secure.recv(65536)
                return secure.session_reused, secure.session

    _, session = await deferToThread(reused, None)
    again, _ = await deferToThread(reused, session)
    assert again is False


@pytest_twisted.ensureDeferred
async def test_bad_frames_are_answered_and_huge_ones_close(daemon: Daemon, directory: Path) -> None:
    context = client_context(directory, AUTHORITY.agent())

    def talk() -> tuple[list[Any], bytes]:
        with socket.create_connection(daemon.address, timeout=20) as plain:
            with context.wrap_socket(plain) as secure:
                secure.sendall(b"nonsense\n" + b'{"a":"\xff"}\n' + b"[" * 40 + b"]" * 40 + b"\n[]\n" + PING)
                stream = secure.makefile("rb")
                answers = [json.loads(stream.readline()) for _ in range(5)]
                try:
                    secure.sendall(b"x" * (1024 * 1024 + 2))
                    rest = stream.read()
                except OSError:
                    rest = b""
                return answers, rest

    answers, rest = await deferToThread(talk)
    assert [answer.get("error", {}).get("code") for answer in answers] == [
        -32700,
        -32700,
        -32700,
        -32600,
        None,
    ]
    assert [answer["id"] for answer in answers] == [None, None, None, None, 1]
    assert rest == b"" or json.loads(rest)["error"]["code"] == -32700  # sent, if it still arrives
    await until(lambda: bool(daemon.lost))
    assert "longer than 1048576" in daemon.lost[0]


@pytest_twisted.ensureDeferred
async def test_a_flood_from_a_client_that_does_not_read_is_throttled(daemon: Daemon, directory: Path) -> None:
    """The client sends calls and reads nothing: the daemon stops reading, and its queue is bounded."""
    context = client_context(directory, AUTHORITY.agent())
    call = b'{"jsonrpc":"2.0","id":"' + b"i" * 100 + b'","method":"' + b"m" * 90 + b'"}\n'
    plain = socket.create_connection(daemon.address, timeout=20)
    secure = await deferToThread(context.wrap_socket, plain)
    secure.settimeout(1.0)

    def flood() -> int:
        sent = 0
        try:
            while sent < 256 * 1024 * 1024:
                secure.sendall(call * 500)
                sent += 500 * len(call)
        except TimeoutError:
            pass
        return sent

    try:
        sent = await deferToThread(flood)
        assert sent < 64 * 1024 * 1024, "the daemon did not stop reading"
        (peer,) = daemon.connected
        channel: Any = peer._channel
        assert channel._unsent_bytes < 4 * 1024 * 1024
    finally:
        plain.close()
        secure.close()
    await until(lambda: bool(daemon.lost))


@pytest_twisted.ensureDeferred
async def test_a_renewed_identity_serves_the_next_connection_and_a_bad_one_is_not_used(
    daemon: Daemon, directory: Path
) -> None:
    context = client_context(directory, AUTHORITY.agent())

    def serial() -> int:
        from cryptography import x509

        with socket.create_connection(daemon.address, timeout=20) as plain:
            with context.wrap_socket(plain) as secure:
                der = secure.getpeercert(binary_form=True)
                assert der is not None
                return x509.load_der_x509_certificate(der).serial_number

    first = await deferToThread(serial)
    daemon.identity = AUTHORITY.daemon("host-2")
    second = await deferToThread(serial)
    daemon.identity = Identity(b"", b"", b"")
    third = await deferToThread(serial)
    assert first != second and second == third


@pytest_twisted.ensureDeferred
async def test_a_listener_without_a_usable_identity_does_not_start() -> None:
    bad = Daemon()
    bad.identity = Identity(b"", b"", b"")
    with pytest.raises(ValueError, match="unusable"):
        await bad.start()


@contextlib.contextmanager
def silent_connections(address: tuple[str, int], count: int) -> Iterator[None]:
    """Hold `count` connections of 127.0.0.1 that send nothing."""
    held = [socket.create_connection(address, timeout=20) for _ in range(count)]
    try:
        yield
    finally:
        for one in held:
            one.close()


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
@pytest_twisted.ensureDeferred
async def test_silent_connections_do_not_block_an_agent(
    daemon: Daemon, directory: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setattr(secure_transport, "HANDSHAKE_TIMEOUT_S", 600.0)  # so that no deadline closes them
    context = client_context(directory, AUTHORITY.agent("s-7-VM"))

    def dial() -> bytes:
        with silent_connections(daemon.address, 500):
            return exchange(daemon.address, context, PING, source)

    assert b"result" in await deferToThread(dial)
    assert [peer.caller.name for peer in daemon.connected] == ["s-7-VM"]


@pytest_twisted.ensureDeferred
async def test_silent_connections_disconnect_no_agent_and_are_reported_once(
    daemon: Daemon, directory: Path
) -> None:
    context = client_context(directory, AUTHORITY.agent("s-7-VM"))

    def stay() -> bytes:
        with socket.create_connection(daemon.address, timeout=20) as plain:
            with context.wrap_socket(plain) as secure:
                secure.sendall(PING)
                secure.recv(65536)
                with silent_connections(daemon.address, 500):
                    secure.sendall(PING)
                    return secure.recv(65536)

    assert b"result" in await deferToThread(stay)
    crowded = [refusal for refusal in daemon.refused if refusal.check is ControlFailure.CROWDED]
    assert len(crowded) == 1


@pytest_twisted.ensureDeferred
async def test_one_certificate_holds_a_bounded_number_of_connections(daemon: Daemon, directory: Path) -> None:
    context = client_context(directory, AUTHORITY.agent("s-7-VM"))

    def dial() -> ssl.SSLSocket:
        secure = context.wrap_socket(socket.create_connection(daemon.address, timeout=20))
        secure.sendall(PING)
        secure.recv(65536)
        return secure

    held = [await deferToThread(dial) for _ in range(BOUNDS.of_owner + 2)]
    await until(lambda: len(daemon.lost) == 2)
    assert "too many connections" in daemon.lost[0]
    for one in held:
        one.close()

# SPDX-License-Identifier: Apache-2.0
"""Invalid TLS peers, at the socket, of the daemon's listener and of the agent's dialer.

The peers use the standard library's `ssl`, OpenSSL's own connection or plain sockets, and none of the
project's code. Every refusal must name the check that failed.
"""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from rpc_pki import CLIENT, HOUR, SERVER, TestAuthority
from rpc_wait import until
from systemvm.management.pki.authority import CertificateAuthority
from systemvm.management.pki.public import SUBJECT
from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Caller, MethodTable
from systemvm.rpc.stream import secure_transport
from systemvm.rpc.stream.dialer import Dialer
from systemvm.rpc.stream.listener import listen
from systemvm.rpc.tls.identity import Identity
from systemvm.rpc.tls.peer_certificate import describe_certificate_pem
from systemvm.rpc.tls.refusal import Refusal
from systemvm.service.backoff import Backoff

pytestmark = pytest.mark.timeout(90)

AUTHORITY = TestAuthority()
OTHER_CA = TestAuthority()
MINUTE = datetime.timedelta(minutes=1)
AGENT_NAME = ["s-1-vm.ssvm.systemvm"]
DAEMON_NAMES = ["host-1.management.systemvm", "management.systemvm"]
REVOKED = AUTHORITY.agent("s-66-VM")
HELLO = b'{"jsonrpc":"2.0","id":1,"method":"hello","params":{}}\n'


def self_signed(names: list[str], usage: Any) -> Identity:
    """Return an identity whose certificate is its own CA."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from systemvm.management.pki.keystore import key_to_pem

    authority = CertificateAuthority.create("self")
    builder = (
        x509.CertificateBuilder()
        .subject_name(authority.certificate.subject)
        .issuer_name(authority.certificate.subject)
        .public_key(authority.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(authority.certificate.not_valid_before_utc)
        .not_valid_after(authority.certificate.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    from cryptography.hazmat.primitives import hashes

    signed = builder.sign(authority.key, hashes.SHA256())
    pem = signed.public_bytes(Encoding.PEM)
    return Identity(key_to_pem(authority.key), pem, pem)


def of_public_ca(names: list[str], usage: Any) -> Identity:
    """Return an identity with valid names, issued by the CA for browsers."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from systemvm.management.pki.keystore import key_to_pem, new_key

    public = CertificateAuthority.create("systemvm public CA")
    key = new_key()
    leaf = public.issue(
        key.public_key(), SUBJECT, [x509.DNSName(name) for name in names], usage, datetime.timedelta(days=1)
    )
    return Identity(key_to_pem(key), leaf.public_bytes(Encoding.PEM), public.certificate_pem)


class Listener:
    """The daemon's listener, and a record of what it refused."""

    def __init__(self) -> None:
        self.refused: list[tuple[str, Refusal]] = []
        self.connected: list[Any] = []
        self.lost = 0
        self._port: Any = None

    async def start(self) -> None:
        self._port = await listen(
            reactor,
            AUTHORITY.daemon,
            MethodTable("daemon", "1"),
            interface="127.0.0.1",
            port=0,
            known=self._known,
            on_connected=self.connected.append,
            on_lost=self._lost,
            on_refused=lambda address, why: self.refused.append((address, why)),
        )

    def _lost(self, peer: object, why: str) -> None:
        self.lost += 1

    @staticmethod
    def _known(caller: Caller) -> None:
        assert caller.certificate is not None
        if caller.certificate.serial == describe_certificate_pem(REVOKED.certificate_pem).serial:
            raise RpcError.refused("revoked", "its certificate was revoked")
        if caller.name == "s-99-VM":
            raise RpcError.refused("not-found", "there is no such system VM")

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._port.getHost().port

    async def stop(self) -> None:
        await self._port.stopListening()
        for peer in self.connected:
            peer.close("the test is over")
        await until(lambda: self.lost == len(self.connected))


@pytest_twisted.async_yield_fixture
async def listener() -> Any:
    started = Listener()
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def context_of(identity: Identity | None, directory: Path, *, server: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        path = directory / f"end-{server}.pem"
        path.write_bytes(identity.private_key_pem + identity.certificate_pem)
        context.load_cert_chain(path)
    return context


def call_over_tls(address: tuple[str, int], context: ssl.SSLContext) -> bytes:
    """Call hello over TLS, and return all that the daemon sends."""
    with contextlib.suppress(OSError):
        with socket.create_connection(address, timeout=20) as plain, context.wrap_socket(plain) as secure:
            secure.sendall(HELLO)
            return secure.recv(65536)
    return b""


def send_plain(address: tuple[str, int], data: bytes) -> bytes:
    """Send bytes without TLS, and return all that the daemon sends."""
    received = b""
    with contextlib.suppress(OSError):
        with socket.create_connection(address, timeout=20) as plain:
            plain.sendall(data)
            plain.shutdown(socket.SHUT_WR)
            while more := plain.recv(65536):
                received += more
    return received


BAD_CLIENTS: dict[str, tuple[Identity | None, str]] = {
    "no certificate": (None, "no-certificate"),
    "wrong CA": (OTHER_CA.agent(), "wrong-ca"),
    "public CA": (of_public_ca(AGENT_NAME, CLIENT), "wrong-ca"),
    "self-signed": (self_signed(AGENT_NAME, CLIENT), "self-signed"),
    "expired": (AUTHORITY.issue(AGENT_NAME, [CLIENT], begins=-2 * HOUR, ends=-MINUTE), "expired"),
    "not yet valid": (AUTHORITY.issue(AGENT_NAME, [CLIENT], begins=HOUR, ends=2 * HOUR), "not-yet-valid"),
    "server's usage": (AUTHORITY.issue(AGENT_NAME, [SERVER]), "wrong-usage"),
    "both usages": (AUTHORITY.issue(AGENT_NAME, [CLIENT, SERVER]), "wrong-usage"),
    "a daemon": (AUTHORITY.daemon(), "wrong-usage"),
    "wrong name": (AUTHORITY.issue(["s-1-vm.ssvm.example"], [CLIENT]), "wrong-name"),
    "wrong role": (AUTHORITY.issue(["r-1-vm.router.systemvm"], [CLIENT]), "wrong-name"),
    "two names": (AUTHORITY.issue([*AGENT_NAME, "v-2-vm.cpvm.systemvm"], [CLIENT]), "wrong-name"),
    "revoked": (REVOKED, "revoked"),
    "not here": (AUTHORITY.agent("s-99-VM"), "unknown-vm"),
}


@pytest.mark.parametrize("what", BAD_CLIENTS)
@pytest_twisted.ensureDeferred
async def test_the_daemon_refuses_a_bad_agent_and_names_the_check(
    listener: Listener, directory: Path, what: str
) -> None:
    identity, check = BAD_CLIENTS[what]
    answer = await deferToThread(call_over_tls, listener.address, context_of(identity, directory))
    assert answer == b""
    await until(lambda: bool(listener.refused))
    ((address, refusal),) = listener.refused
    assert (address, refusal.check.value) == ("127.0.0.1", check)
    assert refusal.text and refusal.hint
    assert listener.connected == []


@pytest.mark.parametrize(
    ("data", "check"),
    [
        (HELLO, "not-tls"),
        (b"GET / HTTP/1.1\r\n\r\n", "not-tls"),
        (bytes(100_000), "not-tls"),
        (b"\x16\x03\x01\xff\xff" + bytes(70_000), "not-tls"),
        (b"", "hung-up"),
        (b"\x16\x03\x01\x00\x05", "hung-up"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_daemon_refuses_data_that_is_not_tls(listener: Listener, data: bytes, check: str) -> None:
    answer = await deferToThread(send_plain, listener.address, data)
    assert b"jsonrpc" not in answer
    await until(lambda: bool(listener.refused))
    assert listener.refused[0][1].check.value == check
    assert listener.connected == []


@pytest_twisted.ensureDeferred
async def test_the_daemon_refuses_tls_1_2(listener: Listener, directory: Path) -> None:
    context = context_of(AUTHORITY.agent(), directory)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await deferToThread(call_over_tls, listener.address, context) == b""
    await until(lambda: bool(listener.refused))
    assert listener.refused[0][1].check.value == "tls-version"


@pytest_twisted.ensureDeferred
async def test_the_daemon_times_out_an_incomplete_handshake(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secure_transport, "HANDSHAKE_TIMEOUT_S", 0.3)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    half = context.wrap_bio(incoming, outgoing, server_hostname="x")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    first = outgoing.read()

    def half_then_nothing() -> bytes:
        with socket.create_connection(listener.address, timeout=20) as plain:
            plain.sendall(first[: len(first) // 2])
            with contextlib.suppress(ConnectionResetError):
                return plain.recv(1)
            return b""

    assert await deferToThread(half_then_nothing) == b""
    await until(lambda: bool(listener.refused))
    assert listener.refused[0][1].check.value == "handshake-timeout"


@pytest_twisted.ensureDeferred
async def test_no_session_is_resumed_or_renegotiated(listener: Listener, directory: Path) -> None:
    identity = AUTHORITY.agent()
    context = context_of(identity, directory)

    def resumed() -> bool | None:
        session = None
        for _ in range(2):
            with socket.create_connection(listener.address, timeout=20) as plain:
                with context.wrap_socket(plain, session=session) as secure:
                    secure.sendall(HELLO)
                    assert b"jsonrpc" in secure.recv(65536)
                    session, again = secure.session, secure.session_reused
        return again

    assert await deferToThread(resumed) is False  # OpenSSL sends a ticket, but the server does not accept it

    def renegotiated() -> bool:
        plain_context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        path = directory / "end-False.pem"
        plain_context.use_certificate_file(str(path))
        plain_context.use_privatekey_file(str(path))
        with socket.create_connection(listener.address, timeout=20) as plain:
            plain.settimeout(None)
            secure = SSL.Connection(plain_context, plain)
            secure.set_connect_state()
            secure.do_handshake()
            try:
                return secure.renegotiate()
            except SSL.Error:
                return False

    assert await deferToThread(renegotiated) is False


# ---- invalid daemons, and the agent's dialer --------------------------------------------------------------


class Impostor:
    """A server that accepts any client, and records what it can read."""

    def __init__(self, serve: Callable[[socket.socket], bytes]) -> None:
        self.received = b""
        self._serve = serve
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(20)
                self.received += self._serve(connection)

    def close(self) -> None:
        # a blocked accept does not see a close
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(20)


def over_tls(context: ssl.SSLContext) -> Callable[[socket.socket], bytes]:
    def serve(connection: socket.socket) -> bytes:
        with context.wrap_socket(connection, server_side=True) as secure:
            return secure.recv(65536)

    return serve


async def dial_impostor(serve: Callable[[socket.socket], bytes]) -> tuple[list[str], bytes]:
    """Dial an impostor once; return the states that the agent reports, and what the impostor read."""
    impostor = Impostor(serve)
    states: list[str] = []

    async def greet(peer: Any) -> None:
        await peer.call("hello", {}, deadline_s=10.0)

    dialer = Dialer(
        reactor,
        AUTHORITY.agent,
        MethodTable("agent", "1"),
        [("127.0.0.1", impostor.port)],
        greet,
        states.append,
        backoff=Backoff(first_s=40.0),
    )
    dialer.start()
    try:
        await until(lambda: any("not connected" in state for state in states))
    finally:
        await dialer.stop()
        await deferToThread(impostor.close)
    return states, impostor.received


BAD_SERVERS: dict[str, tuple[Identity, str]] = {
    "wrong CA": (OTHER_CA.daemon(), "wrong-ca"),
    "public CA": (of_public_ca(DAEMON_NAMES, SERVER), "wrong-ca"),
    "self-signed": (self_signed(DAEMON_NAMES, SERVER), "self-signed"),
    "expired": (AUTHORITY.issue(DAEMON_NAMES, [SERVER], begins=-2 * HOUR, ends=-MINUTE), "expired"),
    "not yet valid": (AUTHORITY.issue(DAEMON_NAMES, [SERVER], begins=HOUR, ends=2 * HOUR), "not-yet-valid"),
    "an agent": (AUTHORITY.agent(), "wrong-usage"),
    "client's usage": (AUTHORITY.issue(DAEMON_NAMES, [CLIENT]), "wrong-usage"),
    "both usages": (AUTHORITY.issue(DAEMON_NAMES, [CLIENT, SERVER]), "wrong-usage"),
    "wrong name": (AUTHORITY.issue(["management.example"], [SERVER]), "wrong-name"),
    "no name": (AUTHORITY.issue([], [SERVER]), "wrong-name"),
}


@pytest.mark.parametrize("what", BAD_SERVERS)
@pytest_twisted.ensureDeferred
async def test_an_agent_refuses_a_bad_daemon_and_names_the_check(directory: Path, what: str) -> None:
    identity, check = BAD_SERVERS[what]
    states, received = await dial_impostor(over_tls(context_of(identity, directory, server=True)))
    assert received == b"", "hello reached an impostor"
    assert any(f": {check}: " in state for state in states), states


@pytest_twisted.ensureDeferred
async def test_an_agent_refuses_tls_1_2_plain_text_and_garbage(directory: Path) -> None:
    old = context_of(AUTHORITY.daemon(), directory, server=True)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    states, received = await dial_impostor(over_tls(old))
    assert received == b"" and any("tls-version" in state for state in states), states

    for greeting in (b"220 welcome\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(70_000)):

        def send_greeting(connection: socket.socket, greeting: bytes = greeting) -> bytes:
            connection.sendall(greeting)
            return b"".join(iter(lambda: connection.recv(65536), b""))

        states, received = await dial_impostor(send_greeting)
        assert b"jsonrpc" not in received
        assert any("not-tls" in state for state in states), states


@pytest_twisted.ensureDeferred
async def test_an_agent_times_out_a_silent_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secure_transport, "HANDSHAKE_TIMEOUT_S", 0.3)
    states, received = await dial_impostor(
        lambda connection: b"".join(iter(lambda: connection.recv(65536), b""))
    )
    assert b"jsonrpc" not in received
    assert any("handshake-timeout" in state for state in states), states

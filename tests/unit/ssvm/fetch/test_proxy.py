# SPDX-License-Identifier: Apache-2.0
"""A source behind the zone's proxy: what the proxy receives and answers, and which routes there are."""

from __future__ import annotations

import base64
import socket
import threading
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.address_policy import AddressPolicy
from systemvm.ssvm.fetch.connect import open_tunnel
from systemvm.ssvm.fetch.proxy_connect import MAX_HEAD_BYTES, ConnectResponse, connect_request
from systemvm.ssvm.fetch.route import SourceRoute, find_routes
from systemvm.ssvm.fetch.tunnel_endpoint import TunnelEndpoint
from systemvm.ssvm.limits import DEFAULT
from systemvm.wire import source_url
from systemvm.wire.source_access import SourceProxy, parse_proxy
from systemvm.wire.source_url import SourceUrlError
from systemvm.wire.transfer_failure import TransferFailure
from unit.ssvm.fetch.memory_endpoint import MemoryEndpoint

URL = source_url.parse("https://images.example.test/a.qcow2?signature=secret")
PROXY = parse_proxy("http://me:p%3Aw@10.11.0.9")
OPEN = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "authority", "login"),
    [
        ("http://proxy.example.test", "proxy.example.test:3128", None),
        ("proxy.example.test:8080", "proxy.example.test:8080", None),
        ("http://[2001:DB8::1]:81/", "[2001:db8::1]:81", None),
        ("http://u:%40%3A@10.0.0.1", "10.0.0.1:3128", ("u", "@:")),
        ("http://u@10.0.0.1:1", "10.0.0.1:1", ("u", "")),
    ],
)
def test_a_proxy_is_written_as_in_cloudstack(text: str, authority: str, login: Any) -> None:
    proxy = parse_proxy(text)
    found = None if proxy.credentials is None else (proxy.credentials.username, proxy.credentials.password)
    assert (proxy.authority, found) == (authority, login)
    assert "@:" not in repr(proxy)


@pytest.mark.parametrize(
    "text",
    [
        "https://p",
        "socks5://p",
        "http://",
        "http://p/x",
        "http://p?x",
        "http://0x7f.1",
        "http://u%0a@p",
        "http://p:x",
    ],
)
def test_what_is_not_an_http_proxy_is_refused(text: str) -> None:
    with pytest.raises(SourceUrlError):
        parse_proxy(text)


def test_the_proxy_receives_its_own_login_and_the_servers_name_only() -> None:
    sent = connect_request(URL, PROXY)
    assert sent.startswith(b"CONNECT images.example.test:443 HTTP/1.1\r\nHost: images.example.test:443\r\n")
    login = base64.b64encode(b"me:p:w")
    assert b"Proxy-Authorization: Basic " + login + b"\r\n" in sent
    assert b"secret" not in sent
    assert b"a.qcow2" not in sent
    six = connect_request(source_url.parse("http://[2001:db8::7]/a"), SourceProxy("10.0.0.1"))
    assert six.startswith(b"CONNECT [2001:db8::7]:80 HTTP/1.1\r\n")
    assert b"Authorization" not in six


def test_the_response_can_arrive_byte_by_byte() -> None:
    response = ConnectResponse(URL, PROXY)
    assert [response.feed(bytes([byte])) for byte in OPEN] == [False] * (len(OPEN) - 1) + [True]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic\r\n\r\n", TransferFailure.PROXY_REFUSED),
        (b"HTTP/1.1 403 No\r\n\r\n", TransferFailure.PROXY_REFUSED),
        (b"HTTP/1.0 405 No\r\n\r\n", TransferFailure.PROXY_REFUSED),
        (b"HTTP/1.1 302 Moved\r\nLocation: http://127.0.0.1/\r\n\r\n", TransferFailure.PROXY_REFUSED),
        (b"HTTP/1.1 100 Continue\r\n\r\n", TransferFailure.PROXY_REFUSED),
        (b"HTTP/1.1 502 Bad\r\n\r\n", TransferFailure.HTTP_UNAVAILABLE),
        (b"HTTP/1.1 503\r\n\r\n", TransferFailure.HTTP_UNAVAILABLE),
        (b"HTTP/1.1 504 Late\r\n\r\n", TransferFailure.HTTP_UNAVAILABLE),
        (b"SSH-2.0-OpenSSH\r\n\r\n", TransferFailure.PROXY_REFUSED),
        (b"HTTP/2 200\r\n\r\n", TransferFailure.PROXY_REFUSED),
        (b"a" * (MAX_HEAD_BYTES + 1), TransferFailure.PROXY_REFUSED),
        (OPEN + b"x", TransferFailure.PROXY_REFUSED),
    ],
)
def test_every_other_response_is_a_reason(answer: bytes, code: TransferFailure) -> None:
    with pytest.raises(TransferError) as refused:
        ConnectResponse(URL, PROXY).feed(answer)
    assert refused.value.code is code
    assert "p:w" not in str(refused.value)


class Recorder(Protocol):
    """Sends one line when it is connected, and keeps what arrives."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.is_lost = False

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"GET\n")

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.is_lost = True


def tunnel() -> tuple[MemoryEndpoint, list[Any]]:
    endpoint, outcome = MemoryEndpoint(), list[Any]()
    connecting = TunnelEndpoint(endpoint, URL, PROXY).connect(Factory.forProtocol(Recorder))
    connecting.addBoth(outcome.append)
    return endpoint, outcome


def test_nothing_is_sent_to_the_server_before_the_tunnel_is_open() -> None:
    endpoint, outcome = tunnel()
    assert endpoint.transport.value() == connect_request(URL, PROXY)
    endpoint.protocol.dataReceived(OPEN[:10])
    assert outcome == []
    endpoint.transport.clear()
    endpoint.protocol.dataReceived(OPEN[10:])
    assert endpoint.transport.value() == b"GET\n"
    endpoint.protocol.dataReceived(b"body")
    endpoint.protocol.connectionLost(Failure(ConnectionDone()))
    (inner,) = outcome
    assert (inner.received, inner.is_lost) == ([b"body"], True)


@pytest.mark.parametrize("how", ["refused", "lost"])
def test_a_tunnel_that_is_not_opened_closes_the_connection(how: str) -> None:
    endpoint, outcome = tunnel()
    if how == "refused":
        endpoint.protocol.dataReceived(b"HTTP/1.1 407 Login\r\n\r\n")
    else:
        endpoint.protocol.connectionLost(Failure(ConnectionDone()))
    assert isinstance(outcome[0].value, TransferError)
    assert endpoint.transport.disconnected


def answering(answer: bytes) -> tuple[socket.socket, socket.socket, threading.Thread]:
    """A connected pair; the other end reads a request, and sends `answer`."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        theirs.recv(65536)
        theirs.sendall(answer)
        if not answer:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    return ours, theirs, thread


def test_the_mover_gets_the_socket_of_an_open_tunnel() -> None:
    ours, theirs, thread = answering(OPEN)
    with open_tunnel(ours, URL, PROXY, 10.0) as opened, theirs:
        thread.join()
        theirs.sendall(b"the server's first byte")
        assert opened.recv(64) == b"the server's first byte"
        assert opened.gettimeout() is None


@pytest.mark.parametrize(
    ("answer", "code"),
    [(b"HTTP/1.1 403 No\r\n\r\n", TransferFailure.PROXY_REFUSED), (b"", TransferFailure.CONNECTION_LOST)],
)
def test_the_mover_gets_no_socket_of_a_refused_tunnel(answer: bytes, code: TransferFailure) -> None:
    ours, theirs, thread = answering(answer)
    with theirs, pytest.raises(TransferError) as refused:
        open_tunnel(ours, URL, PROXY, 10.0)
    thread.join()
    assert refused.value.code is code
    assert ours.fileno() == -1


POLICY = AddressPolicy.of_zone([("10.11.0.0/24", "the management network")])


def routes(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: SourceProxy | None, names: dict[str, list[str]]
) -> Any:
    """The routes, or the error; `names` are all that the resolver knows."""

    def defer(reactor: Any, pool: Any, lookup: Any, *arguments: Any) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        try:
            answer.callback(lookup(*arguments))
        except TransferError as error:
            answer.errback(error)
        return answer

    def look_up(host: str, port: int) -> list[Any]:
        if host not in names:
            raise TransferError(TransferFailure.NAME_NOT_FOUND, f"{host} is unknown")
        return [ip_address(text) for text in names[host]]

    class Reactor:
        def getThreadPool(self) -> None: ...

        def callLater(self, delay_s: float, *work: Any) -> Any:
            return type("Call", (), {"active": lambda _: False, "cancel": lambda _: None})()

    monkeypatch.setattr("systemvm.ssvm.fetch.resolve.deferToThreadPool", defer)
    outcome: list[Any] = []
    finding = find_routes(Reactor(), source_url.parse(url), POLICY, proxy, DEFAULT, look_up)
    Deferred.fromCoroutine(finding).addErrback(lambda failure: failure.value).addCallback(outcome.append)
    return outcome[0]


def test_without_a_proxy_the_server_itself_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    found = routes(monkeypatch, "http://a.test/x", None, {"a.test": ["203.0.113.1", "203.0.113.2"]})
    assert found == [SourceRoute(ip_address("203.0.113.1"), 80), SourceRoute(ip_address("203.0.113.2"), 80)]


def test_a_name_that_only_the_proxy_resolves_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = parse_proxy("proxy.test:8080")
    found = routes(monkeypatch, "https://a.test/x", proxy, {"proxy.test": ["203.0.113.9"]})
    assert found == [SourceRoute(ip_address("203.0.113.9"), 8080, proxy)]


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("http://10.11.0.5/x", {}),
        ("http://169.254.169.254/latest", {}),
        ("http://[::ffff:a0b:5]/x", {}),
        ("http://a.test/x", {"a.test": ["10.11.0.5"]}),
        ("http://a.test/x", {"a.test": ["203.0.113.1", "127.0.0.1"]}),
    ],
)
def test_the_server_behind_a_proxy_is_checked(
    monkeypatch: pytest.MonkeyPatch, url: str, names: dict[str, list[str]]
) -> None:
    error = routes(monkeypatch, url, PROXY, names)
    assert isinstance(error, TransferError)
    assert error.code is TransferFailure.URL_DENIED


@pytest.mark.parametrize(
    ("proxy", "names", "is_allowed"),
    [
        ("10.11.0.9", {}, True),  # in the management network: the operator named this address
        ("proxy.test", {"proxy.test": ["10.11.0.9"]}, False),  # this one a name server did
        ("127.0.0.1", {}, False),
        ("169.254.169.254", {}, False),
        ("proxy.test", {"proxy.test": ["127.0.0.1"]}, False),
        ("192.168.1.1", {}, True),
    ],
)
def test_the_address_of_the_proxy_is_the_operators_word(
    monkeypatch: pytest.MonkeyPatch, proxy: str, names: dict[str, list[str]], is_allowed: bool
) -> None:
    found = routes(monkeypatch, "http://203.0.113.1/x", parse_proxy(proxy), names)
    assert isinstance(found, list) is is_allowed
    if not is_allowed:
        assert found.code is TransferFailure.URL_DENIED


def test_what_is_opened_in_the_zones_networks_is_exactly_what_is_named() -> None:
    policy = AddressPolicy.of_zone(
        [("10.11.0.0/24", "the management network")], ["10.11.0.8/31", "127.0.0.0/8"]
    )
    denied = {last: policy.why_denied(ip_address(f"10.11.0.{last}")) is not None for last in (7, 8, 9, 10)}
    assert denied == {7: True, 8: False, 9: False, 10: True}
    assert policy.why_denied(ip_address("127.0.0.1")) == "loopback"
    assert policy.why_denied(ip_address("64:ff9b::10.11.0.9")) is None
    assert policy.why_denied(ip_address("64:ff9b::10.11.0.7")) is not None


ANSWERS = st.binary(max_size=30).map(lambda data: b"HTTP/1.1 200 " + data + b"\r\n\r\n")


@given(st.binary(max_size=80) | ANSWERS, st.integers(1, 90))
def test_any_answer_of_a_proxy_opens_the_tunnel_or_is_a_reason(answer: bytes, step: int) -> None:
    response = ConnectResponse(URL, PROXY)
    try:
        for start in range(0, len(answer), step):
            if response.feed(answer[start : start + step]):
                assert answer.startswith(b"HTTP/1.")
                return
    except TransferError as error:
        assert error.code in (TransferFailure.PROXY_REFUSED, TransferFailure.HTTP_UNAVAILABLE)

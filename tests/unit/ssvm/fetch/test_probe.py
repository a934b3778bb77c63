# SPDX-License-Identifier: Apache-2.0
"""The probe over treq: the exact request, and the exact bytes of the response."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed

from systemvm.ssvm.fetch.pinned_agent import MAX_RESPONSE_BYTES, PinnedAgent, ResponseHead
from systemvm.ssvm.fetch.probe import request_head
from systemvm.wire import source_url
from systemvm.wire.source_url import SourceUrl
from unit.ssvm.fetch.memory_endpoint import MemoryEndpoint

#: treq's parser would change the escapes and the empty segment.
URL = source_url.parse("http://images.example.test:8080/a//%7Eb/../%c3%a4?x=%2F&y")


class Probe:
    def __init__(self, url: SourceUrl = URL) -> None:
        self.clock = Clock()
        self.endpoint = MemoryEndpoint()
        self.agent = PinnedAgent(self.clock, url, self.endpoint)
        self.outcome: list[Any] = []
        probing = Deferred.fromCoroutine(request_head(self.clock, self.agent, url, 30.0))
        probing.addBoth(self.outcome.append)

    def receive(self, *lines: bytes) -> Any:
        self.endpoint.protocol.dataReceived(b"\r\n".join(lines) + b"\r\n\r\n")
        return self.outcome[0] if self.outcome else None


def test_the_request_is_sent_as_it_was_checked() -> None:
    probe = Probe()
    request_line, *fields = probe.endpoint.transport.value().split(b"\r\n\r\n")[0].split(b"\r\n")
    assert request_line == b"GET /a//%7Eb/../%c3%a4?x=%2F&y HTTP/1.1"
    assert sorted(field.lower() for field in fields) == [
        b"accept-encoding: identity",
        b"accept: */*",
        b"connection: close",
        b"host: images.example.test:8080",
        b"range: bytes=0-0",
        b"user-agent: systemvm-ssvm",
    ]


def test_a_server_is_named_by_its_ipv6_address() -> None:
    probe = Probe(source_url.parse("http://[2001:DB8::10]:8080/a"))
    sent = probe.endpoint.transport.value().lower()
    assert sent.startswith(b"get /a http/1.1\r\n")
    assert b"\r\nhost: [2001:db8::10]:8080\r\n" in sent


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_its_bytes_are_kept(status: int) -> None:
    head = Probe().receive(b"HTTP/1.1 %d Moved" % status, b"Location: /\xc3\xa4 b", b"Content-Length: 0")
    assert (head.status, head.location()) == (status, b"/\xc3\xa4 b")


def test_an_unrequested_encoding_is_returned_with_its_length() -> None:
    head = Probe().receive(b"HTTP/1.1 200 OK", b"Content-Encoding: gzip", b"Content-Length: 4711")
    assert isinstance(head, ResponseHead)
    assert (head.headers["content-encoding"], head.headers["content-length"]) == (["gzip"], ["4711"])


def test_all_values_of_a_header_are_kept() -> None:
    head = Probe().receive(b"HTTP/1.1 206 Partial", b"ETag: a", b"ETag: b", b"Content-Length: 1")
    assert head.headers["etag"] == ["a", "b"]


def test_a_cookie_is_not_parsed() -> None:
    probe = Probe()
    head = probe.receive(b"HTTP/1.1 200 OK", b"Set-Cookie: a=b; Path=/", b"Content-Length: 1")
    assert head.headers["set-cookie"] == ["a=b; Path=/"]


def test_a_response_of_unlimited_length_is_aborted() -> None:
    probe = Probe()
    probe.endpoint.protocol.dataReceived(b"HTTP/1.1 200 OK\r\n")
    field = b"X-Padding: " + b"a" * 8000 + b"\r\n"
    for _ in range(MAX_RESPONSE_BYTES // len(field) + 1):
        probe.endpoint.protocol.dataReceived(field)
    assert probe.endpoint.transport.disconnected
    assert probe.outcome == []
    probe.endpoint.protocol.connectionLost(Failure(ConnectionDone()))
    assert isinstance(probe.outcome[0].value, ResponseFailed)


def test_a_server_that_does_not_answer_is_a_timeout() -> None:
    probe = Probe()
    probe.clock.advance(30.0)
    assert isinstance(probe.outcome[0], Failure)


def test_abort_closes_the_connection() -> None:
    probe = Probe()
    probe.agent.abort()
    assert probe.endpoint.transport.disconnected

# SPDX-License-Identifier: Apache-2.0
"""The relay's connection to a VNC server through TLS: whole buffers, hidden bytes, and repeated writes."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

import pytest
from attrs import frozen

from systemvm.cpvm.target_stream import PlainStream, TlsStream
from tls_pair import tls_pair


@frozen
class Ends:
    """Our end as a stream, and the server's, both non-blocking."""

    stream: TlsStream
    server: ssl.SSLSocket


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = tls_pair()
    yield Ends(TlsStream(ours), theirs)
    ours.close()
    theirs.close()


def view(size: int) -> memoryview:
    return memoryview(bytearray(size))


def test_one_read_takes_all_records_that_arrived(ends: Ends) -> None:
    sent = os.urandom(40_000)
    at = 0
    while at < len(sent):
        at += ends.server.send(sent[at : at + 16_384])
    buffer = view(1 << 18)
    assert ends.stream.read_into(buffer) == len(sent)
    assert bytes(buffer[: len(sent)]) == sent
    with pytest.raises(BlockingIOError):
        ends.stream.read_into(buffer)
    assert not ends.stream.reading_needs_write


def test_bytes_that_the_reactor_cannot_see_are_known(ends: Ends) -> None:
    ends.server.send(b"0123456789")
    buffer = view(4)
    assert not ends.stream.has_pending(), "nothing was decrypted yet"
    assert ends.stream.read_into(buffer) == 4
    assert ends.stream.has_pending()
    assert ends.stream.read_into(view(100)) == 6
    assert not ends.stream.has_pending()


def test_the_end_follows_what_arrived_before(ends: Ends) -> None:
    ends.server.send(b"last")
    with pytest.raises(ssl.SSLError):
        ends.server.unwrap()  # sends close_notify, and does not wait for ours
    assert ends.stream.read_into(view(100)) == 4
    assert ends.stream.read_into(view(100)) == 0


def test_a_connection_that_breaks_is_an_end_or_an_error(ends: Ends) -> None:
    ends.server.close()
    try:
        assert ends.stream.read_into(view(100)) == 0
    except BlockingIOError:
        raise AssertionError("it would wait for ever") from None
    except OSError:
        return


def test_refused_writes_are_repeated_with_the_same_bytes(ends: Ends) -> None:
    """More can follow behind them; every byte arrives once and in order."""
    data = os.urandom(1 << 20)
    got, at, offered = bytearray(), 0, 1000
    refusals = 0
    while len(got) < len(data):
        if at < len(data):
            try:
                at += ends.stream.write(data[at : at + offered])
            except BlockingIOError:
                refusals += 1
                offered += 1000  # the browser has sent more meanwhile
                _receive(ends.server, got)
        else:
            _receive(ends.server, got)
    assert refusals > 3
    assert bytes(got) == data


def _receive(server: ssl.SSLSocket, got: bytearray) -> None:
    try:
        while True:
            got += server.recv(1 << 16)
    except ssl.SSLWantReadError:
        return


def test_a_plain_stream_hides_nothing() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    stream = PlainStream(near)
    with pytest.raises(BlockingIOError):
        stream.read_into(view(4))
    far.sendall(b"0123456789")
    assert stream.read_into(view(4)) == 4
    assert not stream.has_pending()
    assert stream.read_into(view(10)) == 6
    assert stream.write(b"abc") == 3
    assert far.recv(10) == b"abc"
    stream.close()
    assert far.recv(10) == b""
    far.close()

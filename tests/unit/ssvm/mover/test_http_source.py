# SPDX-License-Identifier: Apache-2.0
"""One HTTP response over a socket, and the point where it can be resumed."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest
from attrs import evolve

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.http_response import ResumePoint
from systemvm.ssvm.limits import DEFAULT, TransferLimits
from systemvm.ssvm.mover.http_source import HttpSource
from systemvm.ssvm.mover_messages import MoverJob
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

#: Limits that make any read too slow.
IMPATIENT = evolve(DEFAULT, slow_window_s=1e-9, slow_window_bytes=1 << 40)
JOB = MoverJob("job-1", "images.example.test", "images.example.test", "/a", False, ImageFormat.RAW, 1 << 30)
HEAD = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "one"\r\n\r\n'


def read_until_error(source: HttpSource) -> tuple[bytes, TransferError]:
    taken, buffer = b"", bytearray(64)
    while True:
        try:
            count = source.read_into(memoryview(buffer))
        except TransferError as error:
            return taken, error
        taken += buffer[:count]


@pytest.mark.parametrize(
    ("limits", "code"),
    [(IMPATIENT, TransferFailure.STALLED), (DEFAULT, TransferFailure.TRUNCATED)],
    ids=["too slow", "truncated"],
)
def test_the_resume_point_follows_the_returned_bytes(limits: TransferLimits, code: TransferFailure) -> None:
    """A byte that was read but not returned would be missing in the file."""
    server, client = socket.socketpair()
    with server:
        server.sendall(HEAD + bytes(range(200)))
        server.shutdown(socket.SHUT_WR)
        source = HttpSource(client, evolve(JOB, limits=limits))
        taken, error = read_until_error(source)
        assert error.code is code
        assert taken
        assert source.resume_point() == ResumePoint(len(taken), '"one"', 1000, None)
        assert taken == bytes(range(200))[: len(taken)]
        source.close()


def test_a_resumed_response_is_counted_from_its_first_byte() -> None:
    server, client = socket.socketpair()
    with server:
        server.sendall(b'HTTP/1.1 206 Part\r\nContent-Range: bytes 990-999/1000\r\nETag: "one"\r\n')
        server.sendall(b"Content-Length: 10\r\n\r\n0123456789")
        server.shutdown(socket.SHUT_WR)
        source = HttpSource(client, JOB, ResumePoint(990, '"one"', 1000, None))
        request = server.recv(65536).decode()
        assert "Range: bytes=990-\r\n" in request
        assert 'If-Range: "one"\r\n' in request
        buffer, taken = bytearray(64), b""
        while count := source.read_into(memoryview(buffer)):
            taken += buffer[:count]
        assert (taken, source.received_bytes, source.total_bytes) == (b"0123456789", 1000, 1000)
        source.close()


def test_a_response_without_a_validator_or_data_cannot_be_resumed() -> None:
    for answer in (HEAD, HEAD.replace(b"ETag", b"X-Tag") + b"some"):
        server, client = socket.socketpair()
        with server:
            server.sendall(answer)
            server.shutdown(socket.SHUT_WR)
            source = HttpSource(client, JOB)
            read_until_error(source)
            assert source.resume_point() is None
            source.close()


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"


def test_interim_responses_are_passed_over() -> None:
    server, client = socket.socketpair()
    with server:
        server.sendall(3 * HINTS + HEAD + bytes(1000))
        server.shutdown(socket.SHUT_WR)
        source = HttpSource(client, JOB)
        buffer = bytearray(2000)
        assert source.read_into(memoryview(buffer)) == 1000
        assert source.read_into(memoryview(buffer)) == 0
        source.close()


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (100 * HINTS + HEAD, TransferFailure.HTTP_INVALID),
        (HEAD.replace(b"200 OK", b"101 Switching Protocols"), TransferFailure.HTTP_STATUS),
        (HINTS, TransferFailure.CONNECTION_LOST),
    ],
    ids=["endless", "another protocol", "nothing else"],
)
def test_interim_responses_are_no_response(head: bytes, code: TransferFailure) -> None:
    server, client = socket.socketpair()
    with server, client:
        server.sendall(head)
        server.shutdown(socket.SHUT_WR)
        with pytest.raises(TransferError) as refused:
            HttpSource(client, JOB)
        assert refused.value.code is code


def test_a_slow_body_that_is_complete_is_not_too_slow() -> None:
    """Behind the last byte nothing can be resumed: the whole file would be requested again."""
    server, client = socket.socketpair()
    with server:
        server.sendall(HEAD + bytes(1000))
        server.shutdown(socket.SHUT_WR)
        source = HttpSource(client, evolve(JOB, limits=IMPATIENT))
        buffer = bytearray(2000)
        assert source.read_into(memoryview(buffer)) == 1000
        assert source.read_into(memoryview(buffer)) == 0
        source.close()


def test_headers_that_trickle_without_end_are_a_stall() -> None:
    """Each of them comes in time, and a time-out of the socket would begin again."""
    server, client = socket.socketpair()
    ended = threading.Event()
    hasty = evolve(DEFAULT, headers_timeout_s=0.2, slow_window_s=0.2)

    def trickle() -> None:
        with suppress(BrokenPipeError):  # the client has ended the connection
            server.sendall(b"HTTP/1.1 200 OK\r\n")
            while not ended.wait(0.01):
                server.sendall(b"x")

    with server:
        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            with pytest.raises(TransferError, match="did not send its headers") as failed:
                HttpSource(client, evolve(JOB, limits=hasty))
        finally:
            ended.set()
            client.close()
            thread.join()
    assert failed.value.code is TransferFailure.STALLED

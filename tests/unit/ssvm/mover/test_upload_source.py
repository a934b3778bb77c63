# SPDX-License-Identifier: Apache-2.0
"""The bodies of an upload as a mover reads them from their sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from attrs import evolve

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.http_response import ResumePoint
from systemvm.ssvm.limits import DEFAULT
from systemvm.ssvm.mover.upload_source import UploadSource
from systemvm.ssvm.mover_messages import MoverJob, UploadBody
from systemvm.ssvm.upload_messages import END_OF_BODY, FRAME_HEADER, MAX_FRAME_BYTES
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

LIMITS = evolve(DEFAULT, stall_timeout_s=0.05)
JOB = MoverJob(
    job_id="job", host="the client", authority="", target="", is_tls=False, format=ImageFormat.RAW,
    max_size_bytes=1 << 30, limits=LIMITS, upload=UploadBody(),
)  # fmt: skip


class Client:
    """Brings bodies: each is the bytes of a connection, which stays open when `stays_open`."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._bodies: list[tuple[bytes, UploadBody, bool]] = []
        self.why: list[TransferFailure] = []

    def will_send(self, data: bytes, body: UploadBody, *, stays_open: bool = False) -> None:
        self._bodies.append((data, body, stays_open))

    def next_body(self, error: TransferError) -> tuple[socket.socket, MoverJob]:
        self.why.append(error.code)
        if not self._bodies:
            raise error
        data, body, stays_open = self._bodies.pop(0)
        ours, theirs = socket.socketpair()
        ours.sendall(data)
        if stays_open:
            self._sockets.append(ours)
        else:
            ours.close()
        return theirs, evolve(JOB, upload=body)

    def close(self) -> None:
        for each in self._sockets:
            each.close()


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.close()


def frames(*pieces: bytes) -> bytes:
    return b"".join(FRAME_HEADER.pack(len(piece)) + piece for piece in pieces)


def read_all(source: UploadSource, at_most: int = 7) -> bytes:
    received, buffer = bytearray(), bytearray(at_most)
    while count := source.read_into(memoryview(buffer)):
        received += buffer[:count]
    return bytes(received)


def test_bodies_follow_one_another(client: Client) -> None:
    client.will_send(frames(b"0123456789", b"ab") + END_OF_BODY, UploadBody(20))
    client.will_send(frames(b"cdefghij") + END_OF_BODY, UploadBody(20))
    source = UploadSource(JOB, client.next_body)
    assert read_all(source) == b"0123456789abcdefghij"
    assert (source.received_bytes, source.total_bytes) == (20, 20)
    assert client.why == [TransferFailure.TRUNCATED] * 2


def test_a_body_that_breaks_off_keeps_what_it_brought(client: Client) -> None:
    client.will_send(frames(b"0123456789")[:-3], UploadBody(10))
    client.will_send(frames(b"789") + END_OF_BODY, UploadBody(10))
    assert read_all(UploadSource(JOB, client.next_body)) == b"0123456789"
    assert client.why == [TransferFailure.TRUNCATED, TransferFailure.CONNECTION_LOST]


def test_a_stalled_body_makes_room_for_another(client: Client) -> None:
    client.will_send(frames(b"01234"), UploadBody(10), stays_open=True)
    client.will_send(frames(b"56789") + END_OF_BODY, UploadBody(10))
    assert read_all(UploadSource(JOB, client.next_body)) == b"0123456789"
    assert client.why == [TransferFailure.TRUNCATED, TransferFailure.STALLED]


def test_the_end_of_a_form_is_the_end_of_the_file(client: Client) -> None:
    client.will_send(frames(b"0123", b"456") + END_OF_BODY, UploadBody(None, is_whole=True))
    source = UploadSource(JOB, client.next_body)
    assert source.total_bytes is None
    assert read_all(source) == b"0123456"
    assert source.total_bytes == 7


@pytest.mark.parametrize(
    ("data", "stays_open", "code"),
    [
        (frames(b"0123"), False, TransferFailure.UPLOAD_BROKEN),
        (frames(b"0123")[:-1], False, TransferFailure.UPLOAD_BROKEN),
        (b"", False, TransferFailure.UPLOAD_BROKEN),
        (b"\0\0", False, TransferFailure.UPLOAD_BROKEN),
        (FRAME_HEADER.pack(MAX_FRAME_BYTES + 1) + b"x", True, TransferFailure.UPLOAD_BROKEN),
        (frames(b"0123"), True, TransferFailure.STALLED),
    ],
)
def test_a_form_that_breaks_off_is_the_end(
    client: Client, data: bytes, stays_open: bool, code: TransferFailure
) -> None:
    client.will_send(data, UploadBody(None, is_whole=True), stays_open=stays_open)
    source = UploadSource(JOB, client.next_body)
    with pytest.raises(TransferError) as raised:
        read_all(source)
    assert raised.value.code is code
    assert source.resume_point() is None, "its URL is used"


def test_a_resumed_upload_begins_behind_its_journal(client: Client) -> None:
    client.will_send(frames(b"789") + END_OF_BODY, UploadBody(10))
    source = UploadSource(JOB, client.next_body, ResumePoint(7, None, 10, None))
    assert (source.received_bytes, source.total_bytes) == (7, 10)
    assert source.resume_point() == ResumePoint(7, None, 10, None)
    assert read_all(source) == b"789"


def test_an_upload_has_no_resume_point_before_its_first_byte() -> None:
    source = UploadSource(evolve(JOB, upload=UploadBody(10)), lambda error: pytest.fail(str(error)))
    assert source.total_bytes == 10
    assert source.resume_point() is None

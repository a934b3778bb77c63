# SPDX-License-Identifier: Apache-2.0
"""The mover between a web server and a real S3 server: its result, its memory, its end by SIGKILL."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, evolve, field

from s3.relay import relayed
from s3.swift import CREDENTIALS, PLAIN, TLS, Swift
from s3.test_s3_object import download, head, link_to, uploads
from systemvm.ssvm.limits import DEFAULT, MIB
from systemvm.ssvm.mover_messages import (
    ForkServerRequest,
    MoverJob,
    MoverReport,
    ObjectTarget,
    decode_fork_report,
    decode_report,
    encode,
)
from systemvm.ssvm.s3 import object_keys
from systemvm.wire.storage import ImageFormat
from systemvm.wire.transfer_failure import TransferFailure

pytestmark = pytest.mark.netns

_PROGRAM = """import os, sys
os.dup2(int(sys.argv[1]), 3)
from systemvm.ssvm.mover.forkserver import main
sys.exit(main())"""
AGENTS = Path(__file__).resolve().parents[2] / "agents"


@pytest.fixture(scope="module")
def image() -> bytes:
    return random.Random(2).randbytes(70 * MIB + 512)


@define
class Movers:
    """A fork server of movers."""

    connection: socket.socket
    process: subprocess.Popen[bytes]
    last_id: int = 0

    def start(self, job: MoverJob, source: socket.socket, store: socket.socket) -> Mover:
        ours, theirs = socket.socketpair()
        ours.sendall(encode(job))
        self.last_id += 1
        order = encode(ForkServerRequest(self.last_id))
        socket.send_fds(self.connection, [order], [theirs.fileno(), source.fileno(), store.fileno()])
        for each in (theirs, source, store):
            each.close()
        return Mover(self, ours, ours.makefile("rb"))

    def pid(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[-1])


@define
class Mover:
    """One process, and what it reports."""

    movers: Movers
    control: socket.socket
    lines: object = field(repr=False)
    most_memory_kib: int = 0

    def report(self) -> MoverReport:
        """Return the next report, and note its memory."""
        report = decode_report(self.lines.readline())  # type: ignore[attr-defined]
        with contextlib.suppress(OSError, IndexError, TypeError):
            status = Path(f"/proc/{self.movers.pid()}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            self.most_memory_kib = max(self.most_memory_kib, int(found[1]) if found else 0)
        return report

    def outcome(self) -> MoverReport:
        while True:
            report = self.report()
            if report.progress is None:
                return report

    def wait(self) -> int:
        return decode_fork_report(self.movers.connection.recv(4096)).exit_code


@pytest.fixture
def movers() -> Iterator[Movers]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env={**os.environ, "PYTHONPATH": str(AGENTS)},
    )
    theirs.close()
    yield Movers(ours, process)
    ours.close()
    process.wait()


def serve(body: bytes, requests: list[str], until: int | None = None) -> socket.socket:
    """Return a connection to a web server that has this file, and sends it until a byte at most."""
    ours, theirs = socket.socketpair()

    def answer() -> None:
        with contextlib.suppress(OSError), theirs, theirs.makefile("rb") as lines:
            lines_of = iter(lines.readline, b"\r\n")
            request = b"".join(lines_of).decode()
            requests.append(request)
            found = re.search(r"Range: bytes=(\d+)-", request)
            start = int(found[1]) if found else 0
            status = f"206 Partial\r\nContent-Range: bytes {start}-{len(body) - 1}/{len(body)}"
            head = f'HTTP/1.1 {status if found else "200 OK"}\r\nETag: "a"\r\n'
            theirs.sendall(f"{head}Content-Length: {len(body) - start}\r\n\r\n".encode())
            theirs.sendall(body[start:until])
            theirs.recv(1)  # until the mover closes, or dies

    threading.Thread(target=answer, daemon=True).start()
    return ours


def job_for(swift: Swift, body: bytes, tls: bool = False) -> MoverJob:
    endpoint = TLS if tls else PLAIN
    key = object_keys.image_key(2, 201, f"{uuid.uuid4()}.raw")
    return MoverJob(
        "job-1", "images.example.test", "images.example.test", "/a", False, ImageFormat.RAW, 1 << 30,
        checksum=hashlib.sha256(body).hexdigest(), source_id="a", limits=DEFAULT,
        object_target=ObjectTarget(
            endpoint, CREDENTIALS, key, object_keys.journal_key("s-1-VM", "job-1", key), swift.ca_pem
        ),
    )  # fmt: skip


def key_of(job: MoverJob) -> str:
    assert job.object_target is not None
    return job.object_target.key


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_download_becomes_an_object_within_40_mib(
    swift: Swift, movers: Movers, image: bytes, tls: bool
) -> None:
    job = job_for(swift, image, tls)
    mover = movers.start(job, serve(image, []), swift.connect(TLS if tls else PLAIN))
    result = mover.outcome().result
    assert result is not None
    assert (result.size_bytes, result.virtual_size_bytes) == (len(image), len(image))
    assert mover.wait() == 0
    assert 0 < mover.most_memory_kib <= 40 * 1024
    assert download(swift, link_to(key_of(job))) == (200, image)
    again = movers.start(job, serve(b"", []), swift.connect(TLS if tls else PLAIN)).outcome()
    assert again.result == result  # by its note: nothing was received


def test_a_killed_mover_is_continued_behind_its_parts(swift: Swift, movers: Movers, image: bytes) -> None:
    job = job_for(swift, image)
    mover = movers.start(job, serve(image, [], until=60 * MIB), swift.connect(PLAIN))
    while True:
        progress = mover.report().progress
        if progress is not None and progress.received_bytes == 60 * MIB:
            break
    os.kill(movers.pid(), signal.SIGKILL)
    assert mover.wait() == -signal.SIGKILL
    requests: list[str] = []
    result = movers.start(job, serve(image, requests), swift.connect(PLAIN)).outcome().result
    assert result is not None
    found = re.search(r"Range: bytes=(\d+)-", requests[0])
    assert found is not None
    assert 60 * MIB - int(found[1]) <= 64 * MIB
    assert int(found[1]) > 0
    assert download(swift, link_to(key_of(job))) == (200, image)
    assert uploads(swift, key_of(job)) == ()


def test_a_lost_connection_to_the_store_is_replaced(swift: Swift, movers: Movers, image: bytes) -> None:
    job = job_for(swift, image)
    broken = relayed(swift.connect(PLAIN), cut_at=20 * MIB)
    mover = movers.start(job, serve(image, []), broken)
    report = mover.outcome()
    assert report.store_broken is not None
    assert report.store_broken.code == TransferFailure.CONNECTION_LOST.value
    with swift.connect(PLAIN) as another:
        socket.send_fds(mover.control, [encode(evolve(job, is_of_store=True))], [another.fileno()])
    assert mover.outcome().result is not None
    assert download(swift, link_to(key_of(job))) == (200, image)


def test_a_wrong_checksum_leaves_nothing(swift: Swift, movers: Movers, image: bytes) -> None:
    job = evolve(job_for(swift, image), checksum="0" * 64)
    failure = movers.start(job, serve(image, []), swift.connect(PLAIN)).outcome().failure
    assert failure is not None
    assert failure.code == TransferFailure.CHECKSUM_MISMATCH.value
    assert head(swift, key_of(job)) is None
    assert uploads(swift, key_of(job)) == ()
    assert job.object_target is not None
    mark = head(swift, job.object_target.journal_key)
    assert mark is not None
    assert mark.size_bytes == 0


def test_a_key_pair_is_in_no_description_of_a_job(swift: Swift) -> None:
    assert CREDENTIALS.secret_key not in repr(job_for(swift, b""))

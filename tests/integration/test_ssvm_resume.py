# SPDX-License-Identifier: Apache-2.0
"""Downloads that break off resume or restart, and never mix two files."""

from __future__ import annotations

import hashlib
import os
import signal
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_twisted

from integration.ssvm_lab.bad_server import BODY
from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.fixtures import BAD, daemon
from integration.ssvm_lab.world import NAME, QUICK, Builder, World
from rpc_wait import until
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.storage import DownloadAbort, DownloadState, DownloadStatus

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["daemon"]  # a fixture

#: A server that a test has stopped is back in time, also on a slow machine.
PATIENT = QUICK | dict.fromkeys(("first_byte_budget_s", "refused_budget_s", "retry_budget_s"), 120.0)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with (
        tempfile.TemporaryDirectory(prefix="ssvm") as directory,
        Builder(Path(directory), limits=PATIENT) as built,
    ):
        yield built


def content(world: World, status: DownloadStatus) -> bytes:
    assert status.state is DownloadState.DOWNLOADED, status.error
    assert status.install_path is not None
    return (world.store / status.install_path).read_bytes()


def requests_of(world: World, wanted: str) -> list[int]:
    """Return the first byte of each request for a file."""
    answer = world.in_vm("curl", "-sS", "--max-time", "60", f"{BAD}/requests_of?id={wanted}")
    return [int(number) for number in answer.split(",") if number]


def steps(status: DownloadStatus) -> str:
    return "\n".join(step.text for step in status.steps)


@pytest.mark.parametrize("by", ["etag", "date"])
@pytest_twisted.ensureDeferred
async def test_a_download_resumes_where_it_broke_off(world: World, daemon: Daemon, by: str) -> None:
    wanted = str(uuid.uuid4())
    checksum = f"{{SHA-256}}{hashlib.sha256(BODY).hexdigest()}"
    status = await daemon.download(request(world, f"{BAD}/drops?id={wanted}&by={by}", checksum=checksum))
    assert content(world, status) == BODY
    assert (status.received_bytes, status.checksum) == (len(BODY), checksum)
    starts = requests_of(world, wanted)
    assert starts[0] == 0
    assert starts[1:] == sorted(starts[1:])
    assert min(starts[1:]) > 0, "it began again at the first byte"
    assert "resumes in" in steps(status)


@pytest_twisted.ensureDeferred
async def test_a_download_without_a_validator_restarts(world: World, daemon: Daemon) -> None:
    wanted = str(uuid.uuid4())
    status = await daemon.download(request(world, f"{BAD}/drops_once?id={wanted}"))
    assert content(world, status) == BODY
    assert requests_of(world, wanted) == [0, 0]
    assert "restarts in" in steps(status)


@pytest.mark.parametrize("how", ["200", "etag"])
@pytest_twisted.ensureDeferred
async def test_a_file_that_changed_is_downloaded_again_and_never_mixed(
    world: World, daemon: Daemon, how: str
) -> None:
    wanted = str(uuid.uuid4())
    status = await daemon.download(request(world, f"{BAD}/drops_and_changes?id={wanted}&how={how}"))
    assert content(world, status) == bytes(reversed(BODY))
    assert requests_of(world, wanted)[-1] == 0


@pytest.mark.parametrize("how", ["range", "size"])
@pytest_twisted.ensureDeferred
async def test_a_different_part_is_not_used_as_the_rest(world: World, daemon: Daemon, how: str) -> None:
    wanted = str(uuid.uuid4())
    status = await daemon.download(request(world, f"{BAD}/drops_and_changes?id={wanted}&how={how}"))
    assert content(world, status) == bytes(reversed(BODY))


@pytest_twisted.ensureDeferred
async def test_bytes_of_a_slow_response_are_used_once(world: World, daemon: Daemon) -> None:
    """Without a checksum, a byte that is left out or repeated shows only in the file."""
    wanted = str(uuid.uuid4())
    status = await daemon.download(request(world, f"{BAD}/trickles_then_goes_on?id={wanted}"))
    assert content(world, status) == BODY
    assert len(requests_of(world, wanted)) == 2


@pytest_twisted.ensureDeferred
async def test_a_busy_server_is_retried(world: World, daemon: Daemon) -> None:
    wanted = str(uuid.uuid4())
    status = await daemon.download(request(world, f"{BAD}/drops_then_busy?id={wanted}"))
    assert content(world, status) == BODY
    assert requests_of(world, wanted) == [0, *[len(BODY) // 2] * 4]


@pytest_twisted.ensureDeferred
async def test_an_expired_redirect_is_requested_again(world: World, daemon: Daemon) -> None:
    wanted = str(uuid.uuid4())
    status = await daemon.download(request(world, f"{BAD}/moves?id={wanted}"))
    assert content(world, status) == BODY
    assert min(requests_of(world, wanted)[1:]) > 0


@pytest_twisted.ensureDeferred
async def test_a_source_that_always_breaks_at_the_same_byte_exhausts_its_budget(
    world: World, daemon: Daemon
) -> None:
    status = await daemon.download(request(world, f"{BAD}/truncated"))
    assert status.error is not None
    assert status.error.code == "truncated"
    assert steps(status).count("restarts in") == 3
    assert (world.leftovers(), world.job_directories()) == ([], [])
    await until(lambda: world.mover_pids() == [])


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest_twisted.ensureDeferred
async def test_a_web_server_that_is_restarted_loses_no_byte(
    world: World, daemon: Daemon, scheme: str
) -> None:
    """nginx ends during the transfer and is restarted: the request has If-Range with its ETag."""
    data = os.urandom(8 << 20)
    (world.files / "large.raw").write_bytes(data)
    order = request(world, f"{scheme}://{NAME}/paced/large.raw")
    ended = daemon.end_of(order.job_id)
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    await until(lambda: any(one.received_bytes > 1 << 20 for one in daemon.progress))
    before = max(one.received_bytes for one in daemon.progress)
    world.nginx.stop()
    await until(lambda: "resumes in" in "".join(steps(one) for one in daemon.progress))
    world.nginx.start()
    status = await ended
    assert content(world, status) == data
    received = [one.received_bytes for one in daemon.progress if one.job_id == order.job_id]
    assert received == sorted(received), "it began again"
    assert before > 0
    assert "resumes in" in steps(status)


@pytest_twisted.ensureDeferred
async def test_abort_during_a_wait_for_the_source(world: World, daemon: Daemon) -> None:
    (world.files / "large.raw").write_bytes(os.urandom(8 << 20))
    order = request(world, f"http://{NAME}/paced/large.raw")
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    await until(lambda: any(one.received_bytes for one in daemon.progress))
    world.nginx.stop()
    try:
        await until(lambda: "resumes in" in "".join(steps(one) for one in daemon.progress))
        await daemon.call(storage.TEMPLATE_ABORT, DownloadAbort(order.job_id), Acknowledgement)
        assert (world.leftovers(), world.job_directories(), world.mover_pids()) == ([], [], [])
    finally:
        world.nginx.start()


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_away_before_the_first_byte_is_tried_again(
    world: World, daemon: Daemon
) -> None:
    data = os.urandom(1 << 20)
    (world.files / "late.raw").write_bytes(data)
    order = request(world, f"http://{NAME}/late.raw")
    ended = daemon.end_of(order.job_id)
    world.nginx.stop()
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    await until(lambda: "connection refused" in "".join(steps(one) for one in daemon.progress))
    world.nginx.start()
    assert content(world, await ended) == data


@pytest_twisted.ensureDeferred
async def test_abort_is_answered_while_the_store_does_not_answer(world: World, daemon: Daemon) -> None:
    """Its files are removed once the store answers again; until then the job cannot begin anew."""
    order = request(world, f"{BAD}/slow")
    await daemon.call(storage.TEMPLATE_DOWNLOAD, order, DownloadStatus)
    await until(lambda: any(one.received_bytes for one in daemon.progress))
    helpers = world.store_helper_pids()
    for pid in helpers:
        os.kill(pid, signal.SIGSTOP)
    try:
        await daemon.call(storage.TEMPLATE_ABORT, DownloadAbort(order.job_id), Acknowledgement)
        assert world.mover_pids() == []
        assert len(world.job_directories()) == 1
    finally:
        for pid in helpers:
            with suppress(ProcessLookupError):  # it had nothing to do
                os.kill(pid, signal.SIGCONT)
    await until(lambda: world.job_directories() == [])

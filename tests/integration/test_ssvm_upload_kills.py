# SPDX-License-Identifier: Apache-2.0
"""Uploads whose processes are killed: a resumable one goes on with what is durable, a form has failed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import pytest_twisted
import trustme
from attrs import evolve
from twisted.internet.threads import deferToThread

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.fixtures import daemon, published
from integration.ssvm_lab.public_client import Client, identity
from integration.ssvm_lab.upload_fixtures import authority, client, uploads, world
from integration.ssvm_lab.uploads import LARGE, MIB, Uploads, upload_request
from integration.ssvm_lab.world import VM, World, kill_all
from rpc_wait import until
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_SETUP
from systemvm.wire.transfer_failure import TransferFailure

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]
__all__ = ["authority", "client", "daemon", "uploads", "world"]  # fixtures
#: Behind two checkpoints at least.
KILL_AFTER_BYTES = 36 * MIB
MOST_TWICE_BYTES = 32 * MIB


@pytest.mark.parametrize("victim", ["mover", "fork server", "fetch", "serve"])
@pytest_twisted.ensureDeferred
async def test_a_process_killed_in_the_middle_costs_what_its_journal_lacks(
    uploads: Uploads, world: World, victim: str
) -> None:
    uploader = await uploads.begin(upload_request(LARGE))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    assert (await uploader.create(len(LARGE))).code == 201
    running = uploader.start_patch(0, LARGE, "--limit-rate", "6m")
    await until(lambda: uploads.received(uploader) > KILL_AFTER_BYTES)
    pids = {
        "mover": world.mover_pids,
        "fork server": world.fork_server_pids,
        "fetch": world.fetch_pids,
        "serve": world.serve_pids,
    }[victim]()
    assert pids
    kill_all(pids)
    await deferToThread(running.wait)
    head = await uploader.offset()
    assert KILL_AFTER_BYTES - MOST_TWICE_BYTES <= head.offset <= len(LARGE)
    assert head.headers["upload-length"] == str(len(LARGE))
    last = await uploader.patch(head.offset, LARGE[head.offset :])
    assert (last.code, last.offset) == (204, len(LARGE))
    assert published(world, await ended).read_bytes() == LARGE


@pytest_twisted.ensureDeferred
async def test_a_new_agent_and_a_new_fetch_continue_what_the_store_has(
    uploads: Uploads, world: World, authority: trustme.CA, client: Client, tmp_path: Path
) -> None:
    """As after a power cut of the VM: only what is on the store is known."""
    uploader = await uploads.begin(upload_request(LARGE))
    assert (await uploader.create(len(LARGE))).code == 201
    assert (await uploader.patch(0, LARGE[: 50 * MIB])).code == 204
    await uploads.daemon.close()
    kill_all([*world.fetch_pids(), *world.serve_pids()])
    await until(lambda: world.mover_pids() == [])
    with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
        other = await Daemon(Path(directory), world).start()
        try:
            await other.call(EXTRACT_SETUP, identity(authority, VM), Acknowledgement)
            again = await Uploads(other, client, tmp_path).begin(
                evolve(uploader.request, total_bytes=len(LARGE))
            )
            ended = other.end_of(again.request.job_id)
            head = await again.offset()
            assert 50 * MIB - MOST_TWICE_BYTES <= head.offset <= 50 * MIB
            assert (await again.patch(head.offset, LARGE[head.offset :])).code == 204
            assert published(world, await ended).read_bytes() == LARGE
        finally:
            await other.close()


@pytest.mark.parametrize("victim", ["mover", "serve"])
@pytest_twisted.ensureDeferred
async def test_a_form_that_breaks_off_is_the_end(uploads: Uploads, world: World, victim: str) -> None:
    uploader = await uploads.begin(upload_request(LARGE))
    ended = uploads.daemon.end_of(uploader.request.job_id)
    running = uploader.start_form(LARGE, "--limit-rate", "20m")
    await until(lambda: uploads.received(uploader) > 4 * MIB)
    kill_all({"mover": world.mover_pids, "serve": world.serve_pids}[victim]())
    await deferToThread(running.wait)
    status = await ended
    assert status.error is not None
    code = TransferFailure.WORKER_DIED if victim == "mover" else TransferFailure.UPLOAD_BROKEN
    assert status.error.code == code.value
    if victim == "serve":
        assert status.error.message == "file receive failed or connection closed prematurely."
    assert world.leftovers() == []

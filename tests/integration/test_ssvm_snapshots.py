# SPDX-License-Identifier: Apache-2.0
"""Files of volume snapshots through an SSVM's real processes: the agent has the store's helper write them."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import pytest_twisted
from attrs import evolve

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.fixtures import daemon, world
from integration.ssvm_lab.world import STORE, World, run
from rpc_wait import until
from systemvm.rpc.core.errors import RpcError
from systemvm.wire import snapshot, storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.snapshot import (
    MAX_PIECE_BYTES,
    SnapshotAdoption,
    SnapshotEnd,
    SnapshotPiece,
    SnapshotPlace,
)
from systemvm.wire.snapshot_chain import StoredChain
from systemvm.wire.storage import (
    CopyRequest,
    DownloadState,
    DownloadStatus,
    ImageFormat,
    TemplateDelete,
)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["daemon", "world"]  # fixtures

PLACE = SnapshotPlace(STORE, 2, 7, "11111111-1111-4111-8111-111111111111")


@pytest_twisted.ensureDeferred
async def test_a_snapshot_is_visible_when_it_is_whole(world: World, daemon: Daemon) -> None:
    file = bytes(range(256)) * (MAX_PIECE_BYTES // 256) + b"the second piece"

    async def call(method: str, params: object) -> None:
        await daemon.call(method, params, Acknowledgement)

    async def write(offset: int) -> None:
        piece = SnapshotPiece(PLACE, offset, file[offset : offset + MAX_PIECE_BYTES])
        await call(snapshot.SNAPSHOT_WRITE, piece)

    path = world.store / f"snapshots/2/7/{PLACE.snapshot_id}"
    await write(MAX_PIECE_BYTES)  # in any order
    with pytest.raises(RpcError) as refused:
        await call(snapshot.SNAPSHOT_PUBLISH, SnapshotEnd(PLACE, len(file) + 1))
    assert refused.value.reason == "lost"
    await write(0)
    assert not path.exists()
    for _ in range(2):
        await call(snapshot.SNAPSHOT_PUBLISH, SnapshotEnd(PLACE, len(file)))
        assert path.read_bytes() == file and path.stat().st_mode & 0o777 == 0o444
    for _ in range(2):
        await call(snapshot.SNAPSHOT_DELETE, PLACE)
        assert not path.parent.exists()


@pytest_twisted.ensureDeferred
async def test_an_image_is_made_of_a_snapshot_and_published(
    world: World, daemon: Daemon, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    run("qemu-img", "create", "-q", "-f", "qcow2", str(disk), "8M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 300k", str(disk))
    file = disk.read_bytes()
    for offset in range(0, len(file), MAX_PIECE_BYTES):
        piece = SnapshotPiece(PLACE, offset, file[offset : offset + MAX_PIECE_BYTES])
        await daemon.call(snapshot.SNAPSHOT_WRITE, piece, Acknowledgement)
    await daemon.call(snapshot.SNAPSHOT_PUBLISH, SnapshotEnd(PLACE, len(file)), Acknowledgement)
    order = CopyRequest(
        job_id=str(uuid.uuid4()), request_id="r-1", template_id=231, account_id=2, unique_name="231-2-test",
        description="of a snapshot", format=ImageFormat.QCOW2, source=STORE, source_file=None, store=STORE,
        virtual_size_bytes=8 << 20, source_chain=StoredChain(2, 7, [PLACE.snapshot_id]),
    )  # fmt: skip
    while not (status := await daemon.call(storage.TEMPLATE_COPY, order, DownloadStatus)).state.ended:
        await until(lambda: any(one.job_id == order.job_id for one in daemon.finished))
    assert status.state is DownloadState.DOWNLOADED, status.error
    image = world.store / str(status.install_path)
    assert image.parent == world.store / "template/tmpl/2/231" and image.stat().st_uid == 0
    run("qemu-img", "check", "-q", "-f", "qcow2", str(image))
    run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", str(image), str(disk))
    assert status.virtual_size_bytes == 8 << 20 and world.job_directories() == []
    await daemon.call(snapshot.SNAPSHOT_DELETE, PLACE, Acknowledgement)
    copy = evolve(PLACE, snapshot_id="22222222-2222-4222-8222-222222222222")
    for _ in range(2):
        await daemon.call(snapshot.SNAPSHOT_ADOPT, SnapshotAdoption(copy, 2, 231), Acknowledgement)
    adopted = world.store / f"snapshots/2/7/{copy.snapshot_id}"
    await daemon.call(storage.TEMPLATE_DELETE, TemplateDelete(order.job_id, STORE, 2, 231), Acknowledgement)
    assert not image.exists()
    await daemon.call(snapshot.SNAPSHOT_ADOPT, SnapshotAdoption(copy, 2, 231), Acknowledgement)
    run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", str(adopted), str(disk))
    with pytest.raises(RpcError) as refused:
        await daemon.call(snapshot.SNAPSHOT_ADOPT, SnapshotAdoption(PLACE, 2, 231), Acknowledgement)
    assert refused.value.reason == "lost"
    await daemon.call(snapshot.SNAPSHOT_DELETE, copy, Acknowledgement)
    assert not adopted.parent.exists()

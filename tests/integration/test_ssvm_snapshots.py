# SPDX-License-Identifier: Apache-2.0
"""Files of volume snapshots through an SSVM's real processes: the agent has the store's helper write them."""

from __future__ import annotations

import pytest
import pytest_twisted

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.fixtures import daemon, world
from integration.ssvm_lab.world import STORE, World
from systemvm.rpc.core.errors import RpcError
from systemvm.wire import snapshot
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.snapshot import MAX_PIECE_BYTES, SnapshotEnd, SnapshotPiece, SnapshotPlace

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

# SPDX-License-Identifier: Apache-2.0
"""Recordings through an SSVM's real processes: the agent has the store's helper write and read them."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.fixtures import daemon, world
from integration.ssvm_lab.world import STORE, World
from systemvm.rpc.core.errors import RpcError
from systemvm.wire import recording
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.recording import (
    MAX_PIECE_BYTES,
    RecordingContent,
    RecordingPlace,
    RecordingRange,
    RecordingRefusal,
    StoredPiece,
    StoredSize,
)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["daemon", "world"]  # fixtures

ID = "11111111-1111-4111-8111-111111111111"


@pytest_twisted.ensureDeferred
async def test_a_recording_is_stored_read_and_deleted(world: World, daemon: Daemon) -> None:
    file = bytes(range(256)) * (MAX_PIECE_BYTES // 256) + b"the second piece"

    async def append(offset: int) -> int:
        piece = StoredPiece(STORE, 2, ID, offset, file[offset : offset + MAX_PIECE_BYTES])
        stored: StoredSize = await daemon.call(recording.RECORDING_APPEND, piece, StoredSize)
        return stored.size_bytes

    async def read(offset: int) -> RecordingContent:
        wanted = RecordingRange(STORE, 2, ID, offset, MAX_PIECE_BYTES)
        found: RecordingContent = await daemon.call(recording.RECORDING_READ, wanted, RecordingContent)
        return found

    async def refusal(call: Any) -> str:
        with pytest.raises(RpcError) as refused:
            await call
        return refused.value.reason

    assert await append(0) == MAX_PIECE_BYTES
    assert await append(MAX_PIECE_BYTES) == len(file)
    assert await append(0) == len(file)  # repeated
    path = world.store / f"console-recordings/2/{ID}.svrec"
    assert path.read_bytes() == file and path.stat().st_mode & 0o777 == 0o600
    assert await read(0) == RecordingContent(file[:MAX_PIECE_BYTES], len(file))
    assert await read(MAX_PIECE_BYTES) == RecordingContent(b"the second piece", len(file))
    await daemon.call(recording.RECORDING_DELETE, RecordingPlace(STORE, 2, ID), Acknowledgement)
    assert not path.exists()
    assert await refusal(append(MAX_PIECE_BYTES)) == RecordingRefusal.UNKNOWN.value
    assert await refusal(read(0)) == "lost"

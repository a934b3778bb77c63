# SPDX-License-Identifier: Apache-2.0
"""Downloads from a server that limits each connection use several."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from integration.ssvm_lab.daemon import Daemon, request
from integration.ssvm_lab.fixtures import daemon
from integration.ssvm_lab.world import NAME, Builder, World
from systemvm.wire.storage import DownloadState

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]

__all__ = ["daemon"]  # a fixture

SIZE_BYTES = 96 << 20


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssvm") as directory, Builder(Path(directory), "256m") as built:
        yield built


@pytest_twisted.ensureDeferred
async def test_a_server_that_limits_each_connection_gets_several(world: World, daemon: Daemon) -> None:
    data = os.urandom(SIZE_BYTES)
    (world.files / "capped.raw").write_bytes(data)
    world.access_log.write_text("")
    checksum = f"{{SHA-256}}{hashlib.sha256(data).hexdigest()}"
    status = await daemon.download(request(world, f"http://{NAME}/capped/capped.raw", checksum=checksum), 120)
    assert status.state is DownloadState.DOWNLOADED, status.error
    assert (world.store / str(status.install_path)).read_bytes() == data
    sent = [int(line) for line in world.access_log.read_text().split()]
    assert max(sent) < SIZE_BYTES / 2, "one connection brought most of it"
    assert sum(sent) < SIZE_BYTES * 1.2
    assert world.forbidden_connections() == []

# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the download tests: the SSVM's processes with their servers, and the daemon's side of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.world import NAME, SERVER, Builder, World
from systemvm.ssvm.properties import java_properties
from systemvm.wire.storage import (
    DownloadState,
    DownloadStatus,
)

BAD = f"http://{SERVER}:8000"
GOOD = f"https://{NAME}"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssvm") as directory, Builder(Path(directory)) as built:
        yield built


@pytest_twisted.async_yield_fixture
async def daemon(world: World) -> Any:
    world.journal.write_text("")
    with tempfile.TemporaryDirectory(prefix="ssvmd") as directory:
        started = await Daemon(Path(directory), world).start()
        yield started
        await started.close()
    for path in world.store.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def published(world: World, status: DownloadStatus) -> Path:
    """Assert everything that a published template must be, and return the image's path."""
    assert status.state is DownloadState.DOWNLOADED, status
    assert status.install_path is not None
    image = world.store / status.install_path
    assert image.parent == world.store / "template/tmpl/2/204"
    assert sorted(path.name for path in image.parent.iterdir()) == sorted([image.name, "template.properties"])
    assert image.stat().st_size == status.physical_size_bytes
    assert (image.stat().st_uid, image.stat().st_mode & 0o777) == (0, 0o644)
    assert world.job_directories() == []
    values = java_properties.parse((image.parent / "template.properties").read_text())
    assert values["filename"] == image.name
    assert values["size"] == str(image.stat().st_size)
    assert values["virtualsize"] == str(status.virtual_size_bytes)
    assert values["uniquename"] == "204-2-test"
    assert values["description"] == "A tést = image"
    assert values["checksum"] == status.checksum
    return image

# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of uploads: an SSVM with a public listener, and what begins uploads there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme

from integration.ssvm_lab.daemon import Daemon
from integration.ssvm_lab.public_client import Client, identity
from integration.ssvm_lab.uploads import Uploads
from integration.ssvm_lab.world import VM, Builder, World
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.extract import EXTRACT_SETUP


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="ssvm") as directory, Builder(Path(directory), "256m") as built:
        yield built


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def client(world: World, authority: trustme.CA, tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    yield Client(world, tmp_path / "ca.pem")


@pytest_twisted.async_yield_fixture
async def uploads(daemon: Daemon, client: Client, authority: trustme.CA, tmp_path: Path) -> Any:
    await daemon.call(EXTRACT_SETUP, identity(authority, VM), Acknowledgement)
    yield Uploads(daemon, client, tmp_path)

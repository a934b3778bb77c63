# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a small cloud for each test, on a copy of a database that is filled once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.web.resource import Resource

from small_cloud import SmallCloud, make
from small_cloud.rows import fill
from systemvm.management.api.site import ManagementSite


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def cloud(tmp_path: Path, pristine: Path) -> Iterator[SmallCloud]:
    made = make(tmp_path, pristine)
    yield made
    made.jobs.stop()
    made.database.close()


@pytest_twisted.async_yield_fixture
async def url(cloud: SmallCloud) -> AsyncIterator[str]:
    """Serve the cloud's query API on a port of loopback, and yield its URL."""
    from twisted.internet import reactor

    root = Resource()
    root.putChild(b"client", cloud.client())
    port: Any = cast(Any, reactor).listenTCP(0, ManagementSite(root), interface="127.0.0.1")
    yield f"http://127.0.0.1:{port.getHost().port}/client/api"
    await port.stopListening()

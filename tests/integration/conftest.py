# SPDX-License-Identifier: Apache-2.0
"""A short temporary directory for integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory with a short name: UNIX sockets, of at most 107 bytes, are made below it."""
    return tmp_path_factory.mktemp(request.node.name.removeprefix("test_")[:12].rstrip("[_"))

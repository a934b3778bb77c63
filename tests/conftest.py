# SPDX-License-Identifier: Apache-2.0
"""What every test relies on."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP / "agents"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say at once, and by name, what a machine lacks for a test, instead of failing half way through it."""
    if os.geteuid() == 0 and shutil.which("ip") and shutil.which("nft"):
        return
    for item in items:
        if item.get_closest_marker("netns"):
            item.add_marker(pytest.mark.skip(reason="needs root, iproute2 and nftables for network namespaces"))

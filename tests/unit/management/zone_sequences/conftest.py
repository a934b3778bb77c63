# SPDX-License-Identifier: Apache-2.0
"""Everything runs in one thread, so that an order by chance is repeatable."""

from __future__ import annotations

import pytest
from twisted.internet.defer import maybeDeferred

from systemvm.management.primary import pool_directories, pool_usage, pools
from systemvm.management.virtual_machines import machine
from systemvm.management.volumes import leftovers


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pool_directories, pool_usage, pools, machine, leftovers):
        monkeypatch.setattr(module, "deferToThread", maybeDeferred)

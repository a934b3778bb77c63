# SPDX-License-Identifier: Apache-2.0
"""What every unit test relies on."""

from __future__ import annotations

import pytest

from systemvm.management.state import database
from systemvm.service import slowness
from systemvm.service.slowness import KernelCounters, SlownessMeter


@pytest.fixture(autouse=True)
def ordinary_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timeouts by a test's own clock are not to depend on how busy the machine that runs it is."""
    meter = SlownessMeter(counters=lambda: KernelCounters(), reference_task=lambda: 0.0005)
    monkeypatch.setattr(slowness, "METER", meter)


@pytest.fixture(autouse=True)
def unsynchronized_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test survives a loss of power: none waits for the disk."""
    monkeypatch.setattr(database, "SYNCHRONOUS", "OFF")

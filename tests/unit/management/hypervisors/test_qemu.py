# SPDX-License-Identifier: Apache-2.0
"""The embedded driver without QEMU: cleanup after a start that fails early."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import pytest_twisted

from systemvm.host.accelerator import Accelerator
from systemvm.management.hypervisors.base import DomainNic, DomainSpec
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.management.network_helper import NetworkError

UUID = "8a3f1c52-3e0f-4b5e-9c1d-000000000002"


class FakeTaps:
    """The network helper of a host that lacks one bridge."""

    def __init__(self, missing: str) -> None:
        self._missing = missing
        self.existing: set[str] = set()
        self.made: list[str] = []

    async def create_tap(self, name: str, bridge: str, *, isolated: bool, vlan: int | None = None) -> int:
        if bridge == self._missing:
            raise NetworkError(f"there is no bridge {bridge}", "is it in the zone's file?")
        self.made.append(name)
        self.existing.add(name)
        return os.open("/dev/null", os.O_RDONLY)

    async def remove_tap(self, name: str) -> None:
        self.existing.discard(name)


@pytest_twisted.ensureDeferred
async def test_a_start_without_a_bridge_leaves_no_tap_and_no_entry(tmp_path: Path) -> None:
    taps = FakeTaps("cloudbr3")
    run = tmp_path / "qemu"
    driver = QemuHypervisor(run, taps, Accelerator.TCG, binary="/bin/true")
    spec = DomainSpec(
        name="i-2-5-VM",
        uuid=UUID,
        memory_mib=64,
        vcpus=1,
        nics=[
            DomainNic("management", "cloudbr1", "1e:00:00:00:00:01"),
            DomainNic("guest", "cloudbr3", "1e:00:00:00:00:02"),
        ],
        serial_log=tmp_path / "serial.log",
    )
    with pytest.raises(NetworkError, match="no bridge cloudbr3"):
        await driver.start(spec)
    assert len(taps.made) == 1
    assert taps.existing == set()
    assert list(run.iterdir()) == []
    assert driver.status("i-2-5-VM") is None
    await driver.close()

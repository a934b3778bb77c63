# SPDX-License-Identifier: Apache-2.0
"""The CD drive of real QEMU machines: its medium is changed while the machine runs, by two daemons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve

from integration.qemu_lab import NoTaps, hypervisor, machine, run_directory
from systemvm.host.accelerator import Accelerator
from systemvm.management.asyncio_bridge import in_asyncio
from systemvm.management.hypervisors.cd_drive import CD_DRIVE
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.qemu import QemuHypervisor

pytestmark = pytest.mark.timeout(120)

NAME = "i-2-3-VM"

__all__ = ["hypervisor", "run_directory"]  # fixtures


def new_iso(directory: Path, name: str) -> Path:
    path = directory / name
    path.write_bytes(bytes(1 << 20))
    path.chmod(0o444)
    return path


async def drive_of(driver: QemuHypervisor) -> dict[str, Any]:
    """Return what QEMU says of the drive."""
    session = await in_asyncio(driver._running(NAME).session())
    found = await in_asyncio(session.execute("query-block"))
    [drive] = [each for each in found if str(each.get("qdev", "")).endswith(CD_DRIVE)]
    assert drive["removable"]
    return dict(drive)


async def medium_of(driver: QemuHypervisor) -> str | None:
    inserted = (await drive_of(driver)).get("inserted")
    assert inserted is None or inserted["ro"]
    return None if inserted is None else str(inserted["file"])


@pytest_twisted.ensureDeferred
async def test_a_medium_is_inserted_replaced_and_ejected_while_its_machine_runs(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    first, second = new_iso(tmp_path, "first, one.iso"), new_iso(tmp_path, "second.iso")
    await hypervisor.start(machine(tmp_path))
    drive = hypervisor.cd_drive(NAME)
    assert await medium_of(hypervisor) is None
    await drive.eject()
    for medium in (first, second):
        for _ in range(2):  # each can be repeated
            await drive.insert(medium)
            assert await medium_of(hypervisor) == str(medium)
            assert not (await drive_of(hypervisor)).get("tray_open")
    with pytest.raises(HypervisorError, match=r"missing\.iso"):
        await drive.insert(tmp_path / "missing.iso")
    assert await medium_of(hypervisor) == str(second)

    await hypervisor.reset(NAME)
    await hypervisor.close()
    adopting = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    await adopting.adopt()
    assert await medium_of(adopting) == str(second)
    for _ in range(2):
        await adopting.cd_drive(NAME).eject(forced=True)
        assert await medium_of(adopting) is None
        assert not (await drive_of(adopting)).get("tray_open")
    await adopting.cd_drive(NAME).insert(first)
    assert await medium_of(adopting) == str(first)
    await adopting.stop(NAME, forced=True)
    await adopting.close()


@pytest_twisted.ensureDeferred
async def test_a_machine_that_is_started_with_an_iso_gives_it_back(
    hypervisor: QemuHypervisor, tmp_path: Path
) -> None:
    iso = new_iso(tmp_path, "boot, first.iso")
    await hypervisor.start(evolve(machine(tmp_path), cdrom=iso))
    assert await medium_of(hypervisor) == str(iso)
    await hypervisor.cd_drive(NAME).insert(iso)
    await hypervisor.cd_drive(NAME).eject()
    assert await medium_of(hypervisor) is None
    await hypervisor.cd_drive(NAME).insert(iso)
    assert await medium_of(hypervisor) == str(iso)


@pytest_twisted.ensureDeferred
async def test_a_machine_without_the_drive_says_what_to_do(
    hypervisor: QemuHypervisor, tmp_path: Path
) -> None:
    await hypervisor.start(evolve(machine(tmp_path), is_system=True))
    with pytest.raises(HypervisorError, match="runs since an earlier release") as error:
        await hypervisor.cd_drive(NAME).insert(new_iso(tmp_path, "a.iso"))
    assert error.value.hint == "stop it and start it once"
    await hypervisor.cd_drive(NAME).eject()

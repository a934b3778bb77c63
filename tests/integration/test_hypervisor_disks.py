# SPDX-License-Identifier: Apache-2.0
"""Data disks of real QEMU machines: attached, resized and detached while the machine runs."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

import pytest
import pytest_twisted
from attrs import evolve

from integration.qemu_lab import NoTaps, hypervisor, machine, run_directory
from systemvm.host.accelerator import Accelerator
from systemvm.management.hypervisors.data_disks import DataDisk, disk_name
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.qemu import QemuHypervisor

pytestmark = pytest.mark.timeout(120)

NAME = "i-2-3-VM"
MIB = 1 << 20

__all__ = ["hypervisor", "run_directory"]  # fixtures


def new_disk(directory: Path, unit: int) -> DataDisk:
    identity = str(uuid.uuid4())
    path = directory / f"{identity}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    return DataDisk(identity, path, unit)


def is_in_use(disk: DataDisk) -> bool:
    """Return whether QEMU has the lock of a disk."""
    command = ["qemu-img", "info", "-f", "qcow2", str(disk.path)]
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


def size_bytes(disk: DataDisk) -> int:
    command = ["qemu-img", "info", "-U", "--output=json", "-f", "qcow2", str(disk.path)]
    return int(json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["virtual-size"])


@pytest_twisted.ensureDeferred
async def test_a_disk_is_attached_resized_and_detached_while_its_machine_runs(
    hypervisor: QemuHypervisor, tmp_path: Path, run_directory: Path
) -> None:
    from_start, later = new_disk(tmp_path, 1), new_disk(tmp_path, 2)
    await hypervisor.start(evolve(machine(tmp_path), data_disks=[from_start]))
    disks = hypervisor.disks(NAME)
    assert is_in_use(from_start)
    assert not is_in_use(later)
    assert [await disks.has(each.uuid) for each in (from_start, later)] == [True, False]

    for _ in range(2):  # each can be repeated
        await disks.attach(later)
    assert is_in_use(later)
    assert await disks.has(later.uuid)
    for disk in (from_start, later):
        await disks.resize(disk_name(disk.uuid), 128 * MIB)
        assert size_bytes(disk) == 128 * MIB
    with pytest.raises(HypervisorError, match="rejected device_add"):
        await disks.attach(refused := DataDisk(str(uuid.uuid4()), new_disk(tmp_path, 2).path, 2))
    assert not await disks.has(refused.uuid)

    await hypervisor.close()
    adopting = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    await adopting.adopt()
    for disk in (from_start, later):
        for _ in range(2):
            await adopting.disks(NAME).detach(disk.uuid)
        assert not is_in_use(disk)
    await adopting.disks(NAME).attach(from_start)
    assert is_in_use(from_start)
    await adopting.stop(NAME, forced=True)
    assert not is_in_use(from_start)
    await adopting.close()


@pytest_twisted.ensureDeferred
async def test_a_machine_without_the_controller_says_what_to_do(
    hypervisor: QemuHypervisor, tmp_path: Path
) -> None:
    await hypervisor.start(evolve(machine(tmp_path), is_system=True))
    with pytest.raises(HypervisorError) as error:
        await hypervisor.disks(NAME).attach(new_disk(tmp_path, 1))
    assert error.value.hint == "stop it and start it once"

# SPDX-License-Identifier: Apache-2.0
"""Backups of disks of running QEMU machines: whole, incremental, and after kills. Guests are idle.

`qemu-io` of QEMU's monitor writes to the disks in a guest's place.
"""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve

from integration.qemu_lab import Exits, NoTaps, hypervisor, machine, run_directory
from present import present
from qemu_ga_double import QemuGaDouble
from systemvm.host.accelerator import Accelerator
from systemvm.management.asyncio_bridge import in_asyncio
from systemvm.management.hypervisors.data_disks import DataDisk, disk_name
from systemvm.management.hypervisors.disk_backup import DiskBackup
from systemvm.management.hypervisors.errors import HypervisorError
from systemvm.management.hypervisors.guest_agent import GuestAgent
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.management.hypervisors.qmp import QmpSession
from systemvm.management.primary.qemu_img import QemuImg

pytestmark = pytest.mark.timeout(240)

NAME = "i-2-3-VM"
MIB = 1 << 20
SIZE = 64 * MIB
#: What an increment has besides its data: the tables of a qcow2.
TABLES_BYTES = 512 * 1024

__all__ = ["hypervisor", "run_directory"]  # fixtures


@pytest.fixture
def disk(tmp_path: Path) -> DataDisk:
    identity = str(uuid.uuid4())
    path = tmp_path / f"{identity}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(SIZE)], check=True)
    return DataDisk(identity, path, 1)


async def qemu_io(driver: QemuHypervisor, disk: DataDisk, command: str) -> None:
    async def run() -> str:
        session = await driver._domains[NAME].session()
        line = f'qemu-io {disk_name(disk.uuid)} "{command}"'
        return str(await session.execute("human-monitor-command", {"command-line": line}))

    assert "error" not in (output := await in_asyncio(run())).lower(), output


def are_equal(one: Path, other: Path) -> bool:
    command = ["qemu-img", "compare", "-U", "-f", "qcow2", "-F", "qcow2", str(one), str(other)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Backups:
    """Backups of one disk, and what each should have."""

    def __init__(self, disk: DataDisk, directory: Path) -> None:
        self.disk = disk
        self.directory = directory
        self.chain: list[Path] = []
        self.last: str | None = None

    async def make(self, driver: QemuHypervisor) -> bool:
        name = str(uuid.uuid4())
        target = self.directory / name
        await QemuImg().create_empty(target, SIZE)
        backup = DiskBackup(name, disk_name(self.disk.uuid), target, self.last)
        is_whole = await driver.disks(NAME).back_up(backup)
        self.chain = [target] if is_whole else [*self.chain, target]
        self.last = name
        return is_whole

    async def check(self) -> None:
        """Compare the chain with the disk, which nobody has written to since."""
        flat = self.directory / "flat.qcow2"
        flat.touch()
        await QemuImg().flatten(self.chain, flat, SIZE)
        assert are_equal(flat, self.disk.path)


@pytest_twisted.ensureDeferred
async def test_an_increment_has_what_changed_since_and_no_more(
    hypervisor: QemuHypervisor, tmp_path: Path, disk: DataDisk
) -> None:
    spec = evolve(machine(tmp_path), data_disks=[disk])
    exits = Exits(hypervisor)
    await hypervisor.start(spec)
    backups = Backups(disk, tmp_path)
    await qemu_io(hypervisor, disk, "write -P 0x11 0 8M")
    await qemu_io(hypervisor, disk, "write -P 0x22 20M 4M")
    assert await backups.make(hypervisor), "the first one is whole"
    await backups.check()

    await qemu_io(hypervisor, disk, "write -P 0x33 40M 2M")
    await qemu_io(hypervisor, disk, "write -P 0x44 1M 1M")
    await qemu_io(hypervisor, disk, "write -z 21M 1M")
    await qemu_io(hypervisor, disk, "discard 5M 1M")
    assert not await backups.make(hypervisor)
    await backups.check()
    changed = 3 * MIB  # zeroes cost nothing
    assert backups.chain[-1].stat().st_blocks * 512 <= 1.1 * changed + TABLES_BYTES

    # a machine that ends keeps the record of its changes
    await hypervisor.stop(NAME, forced=True)
    await exits.next()
    await hypervisor.start(spec)
    await qemu_io(hypervisor, disk, "write -P 0x55 60M 1M")
    assert not await backups.make(hypervisor)
    assert len(backups.chain) == 3
    await backups.check()

    # that of one that was killed is worth nothing
    await qemu_io(hypervisor, disk, "write -P 0x66 60M 2M")
    os.kill(present(present(hypervisor.status(NAME)).pid), signal.SIGKILL)
    await exits.next()
    await hypervisor.start(spec)
    assert await backups.make(hypervisor)
    await backups.check()


@pytest_twisted.ensureDeferred
async def test_a_backup_that_a_killed_daemon_began_is_made_again(
    hypervisor: QemuHypervisor, tmp_path: Path, disk: DataDisk, run_directory: Path
) -> None:
    await hypervisor.start(evolve(machine(tmp_path), data_disks=[disk]))
    backups = Backups(disk, tmp_path)
    await qemu_io(hypervisor, disk, "write -P 0x11 0 8M")
    assert await backups.make(hypervisor)
    await qemu_io(hypervisor, disk, "write -P 0x22 4M 8M")
    name = str(uuid.uuid4())
    target = tmp_path / name
    await QemuImg().create_empty(target, SIZE)

    async def begin() -> None:
        session = await hypervisor._domains[NAME].session()
        node = f"snap-{name.replace('-', '')[:24]}"
        await session.execute(
            "blockdev-add",
            {"driver": "qcow2", "node-name": node, "file": {"driver": "file", "filename": str(target)}},
        )
        device = disk_name(disk.uuid)
        bitmap = {"node": device, "name": f"snapshot-{name}", "persistent": True}
        await session.execute("block-dirty-bitmap-add", bitmap)
        copies = {
            "job-id": f"backup-{name}",
            "device": device,
            "target": node,
            "sync": "full",
            "speed": 65536,
        }
        await session.execute("blockdev-backup", copies)

    await in_asyncio(begin())
    await hypervisor.close()
    adopting = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    await adopting.adopt()
    backup = DiskBackup(name, disk_name(disk.uuid), target, backups.last)
    assert not await adopting.disks(NAME).back_up(backup)
    backups.chain.append(target)
    await backups.check()
    await adopting.disks(NAME).forget_changes(disk_name(disk.uuid), name)
    backups.last = name
    assert not await backups.make(adopting)
    await adopting.stop(NAME, forced=True)
    await adopting.close()


@pytest_twisted.ensureDeferred
async def test_a_failed_backup_leaves_what_the_one_before_needs(
    hypervisor: QemuHypervisor, tmp_path: Path, disk: DataDisk
) -> None:
    await hypervisor.start(evolve(machine(tmp_path), data_disks=[disk]))
    backups = Backups(disk, tmp_path)
    await qemu_io(hypervisor, disk, "write -P 0x11 0 4M")
    assert await backups.make(hypervisor)
    await qemu_io(hypervisor, disk, "write -P 0x22 4M 4M")
    full = Path("/dev/full")
    target = tmp_path / "small"
    await QemuImg().create_empty(target, MIB)
    for path in (target, full):
        with pytest.raises(HypervisorError):
            await hypervisor.disks(NAME).back_up(
                DiskBackup(str(uuid.uuid4()), disk_name(disk.uuid), path, backups.last)
            )
    assert not await backups.make(hypervisor)
    await backups.check()


@pytest_twisted.ensureDeferred
async def test_a_backup_begins_while_the_guest_holds_its_file_systems_still(
    hypervisor: QemuHypervisor, tmp_path: Path, disk: DataDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent is a double: these guests have no programs."""
    await hypervisor.start(evolve(machine(tmp_path), data_disks=[disk]))
    domain = hypervisor._domains[NAME]
    assert domain._guest_agent is not None, "the channel of a user's VM is held open, too"
    domain._guest_agent.release()
    answers: dict[str, Any] = {"status": {"return": "thawed"}, "freeze": {"return": 1}, "thaw": {"return": 1}}
    double = QemuGaDouble(
        **{f"guest_fsfreeze_{name}": lambda _, name=name: answers[name] for name in answers}
    )
    domain._guest_agent = GuestAgent(NAME, double.connect)
    execute = QmpSession.execute

    async def noted(session: QmpSession, command: str, *arguments: Any, **more: Any) -> Any:
        double.commands.append(command)
        return await execute(session, command, *arguments, **more)

    monkeypatch.setattr(QmpSession, "execute", noted)
    await qemu_io(hypervisor, disk, "write -P 0x11 0 8M")

    async def make() -> None:
        name = str(uuid.uuid4())
        target = tmp_path / name
        await QemuImg().create_empty(target, SIZE)
        double.commands.clear()
        backup = DiskBackup(name, disk_name(disk.uuid), target, quiesce=True)
        assert await hypervisor.disks(NAME).back_up(backup)
        assert are_equal(target, disk.path)

    await make()
    assert [name for name in double.commands if "fsfreeze" in name or name == "transaction"] == [
        "guest-fsfreeze-status", "guest-fsfreeze-freeze", "transaction", "guest-fsfreeze-thaw",
    ]  # fmt: skip
    answers["freeze"] = {"error": {"desc": "fsfreeze hook has failed"}}
    with pytest.raises(HypervisorError, match="fsfreeze hook has failed"):
        await make()
    assert "transaction" not in double.commands and "guest-fsfreeze-thaw" in double.commands
    answers["freeze"] = {"return": 1}
    await make()

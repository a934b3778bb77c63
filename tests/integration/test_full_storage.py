# SPDX-License-Identifier: Apache-2.0
"""A real QEMU whose guest writes more than its storage has room for: it waits, and goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor, task

from integration.qemu_lab import IDLE, POWER_OFF, Exits, boot_sector, hypervisor, machine, run_directory
from systemvm.management.hypervisors.base import Disk, ExitReason
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.service.slowness import scaled_s

pytestmark = [pytest.mark.timeout(300), pytest.mark.netns]

__all__ = ["hypervisor", "run_directory"]  # fixtures

NAME = "i-2-3-VM"
SECTORS, WRITES = 64, 64
#: Writes 32 KiB of the BIOS to each of 64 places that are 64 KiB apart (int 13h, AH=43h), then powers off.
WRITER = (
    bytes.fromhex("31c0 8ed8 b94000 51 b80043 be307c cd13 7216 6681 06387c 80000000 59 e2e9")
    + POWER_OFF
    + IDLE
).ljust(0x30, b"\x90") + bytes.fromhex("1000 4000 0000 00f0 0010000000000000")


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB, of which a file leaves 1 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=8m", "small", directory)
    (directory / "others").write_bytes(b"x" * (7 << 20))
    yield directory
    run("umount", "--lazy", directory)  # QEMU still ends


async def condition_of(driver: QemuHypervisor, wanted: str) -> None:
    """Wait until QEMU has this run state."""
    waited_s = 0.0
    while await driver.condition(NAME) != wanted:
        assert waited_s < scaled_s(60.0), f"the machine is not {wanted}"
        await task.deferLater(reactor, 0.02)
        waited_s += 0.02


@pytest_twisted.ensureDeferred
async def test_a_write_without_room_waits_and_is_made_when_there_is_some(
    hypervisor: QemuHypervisor, storage: Path, tmp_path: Path
) -> None:
    written, expected = storage / "disk.qcow2", tmp_path / "expected.raw"
    source = boot_sector(tmp_path / "boot.raw", WRITER).path
    run("truncate", "-s", "16M", source)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", source, written)
    exits = Exits(hypervisor)
    await hypervisor.start(evolve(machine(tmp_path), disk=Disk(written)))
    await condition_of(hypervisor, "io-error")
    await hypervisor.resume(NAME)
    await condition_of(hypervisor, "io-error")  # there is still no room
    assert exits.seen == []
    (storage / "others").unlink()
    await hypervisor.resume(NAME)
    assert await exits.next() == (NAME, ExitReason.GUEST_SHUTDOWN)

    run("qemu-img", "check", "-q", "-f", "qcow2", written)
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", written, expected)
    disk = expected.read_bytes()
    first, step = 0x1000 * 512, 2 * SECTORS * 512
    places = [disk[first + n * step : first + n * step + SECTORS * 512] for n in range(WRITES)]
    assert any(places[0])
    assert len(set(places)) == 1, "each write is whole"

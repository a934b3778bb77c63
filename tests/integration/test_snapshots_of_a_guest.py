# SPDX-License-Identifier: Apache-2.0
"""A guest that writes is snapshotted, and boots from what is restored with whole files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from integration.qemu_lab import NoTaps, machine, run_directory
from integration.test_volume_snapshots import MIB, Lab
from small_cloud import SmallCloud
from small_cloud.fixtures import cloud, pristine
from systemvm.host.accelerator import Accelerator
from systemvm.lab import guest_image
from systemvm.management.hypervisors.base import Disk
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.service.slowness import scaled_s
from writing_guest import FILES, add_writer, rounds, whole_files

TOP = Path(__file__).resolve().parents[2]
MEMORY_MIB = 128

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.image,
    pytest.mark.skipif(
        not (TOP / "build/images/ssvm.vmlinuz").exists(), reason="needs built images: `make images`"
    ),
]

__all__ = ["cloud", "pristine", "run_directory"]  # fixtures


@pytest_twisted.async_yield_fixture
async def driver(run_directory: Path) -> AsyncIterator[QemuHypervisor]:
    made = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    yield made
    for name in list(made._domains):
        await made.stop(name, forced=True)
    await made.close()


def has_booted(serial_log: Path) -> bool:
    return whole_files(serial_log) is not None


async def wait_until(what: str, is_so: Callable[[], bool]) -> None:
    deadline = reactor.seconds() + scaled_s(120)
    while not is_so():
        assert reactor.seconds() < deadline, what
        await deferLater(reactor, 0.5, lambda: None)


@pytest_twisted.ensureDeferred
async def test_a_guest_that_writes_boots_from_its_snapshots_with_whole_files(
    cloud: SmallCloud, driver: QemuHypervisor, tmp_path: Path
) -> None:
    tiny = await deferToThread(guest_image.build, TOP / "build")
    (tmp_path / "work").mkdir()
    lab, log = Lab(cloud, driver, tmp_path), tmp_path / "log/serial.log"
    await lab.start(lambda base: add_writer(tiny, tmp_path / "work", base), 72 * MIB, MEMORY_MIB)
    await wait_until("the guest has filled its slots", lambda: rounds(log) >= FILES)
    whole = await lab.take()
    increment = await lab.take()
    assert (whole.parent_id, increment.parent_id) == (None, whole.id)
    assert lab.moved_bytes(increment) < lab.moved_bytes(whole) / 2
    for snapshot in (increment, whole):
        disk = await lab.restored(snapshot)
        restored_log = tmp_path / f"{snapshot.uuid}.log"
        spec = machine(
            tmp_path, name="restored", disk=Disk(disk), memory_mib=MEMORY_MIB, serial_log=restored_log
        )
        await driver.start(spec)
        await wait_until("the restored disk boots", partial(has_booted, restored_log))
        assert (whole_files(restored_log) or 0) >= FILES - 1
        await driver.stop("restored", forced=True)

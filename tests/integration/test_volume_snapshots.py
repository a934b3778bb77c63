# SPDX-License-Identifier: Apache-2.0
"""Snapshots from a running QEMU machine to a store and back: real disks, real files, the SSVM's own code.

Only the connection between daemon and SSVM is a fake; `test_ssvm_snapshots.py` has the real one.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from integration.qemu_lab import NoTaps, machine, run_directory
from present import present
from small_cloud import SmallCloud
from small_cloud.fixtures import cloud, pristine
from snapshot_store import SnapshotStore
from systemvm.host.accelerator import Accelerator
from systemvm.management.asyncio_bridge import in_asyncio
from systemvm.management.hypervisors.base import Disk
from systemvm.management.hypervisors.qemu import QemuHypervisor
from systemvm.management.mount_helper import PoolMounts
from systemvm.management.primary.pool_directories import HostPoolDirectories
from systemvm.management.primary.pools import PrimaryPools
from systemvm.management.primary.storage import PrimaryStorage
from systemvm.management.snapshots.files import SnapshotFiles
from systemvm.management.snapshots.service import VolumeSnapshots
from systemvm.management.snapshots.transitions import NewSnapshot
from systemvm.management.state import volumes
from systemvm.management.state.instances import Instance
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import VolumeState
from systemvm.management.state.volumes import Volume
from systemvm.management.volumes.service import Volumes
from systemvm.management.volumes.transitions import NewVolume
from systemvm.wire.snapshot import SNAPSHOT_WRITE
from user_vms import deploy_running

pytestmark = pytest.mark.timeout(300)

MIB = 1 << 20
SIZE = 64 * MIB
#: `make soak-zone` deletes 100 chains.
CHAINS = int(os.environ.get("SNAPSHOT_CHAINS", "3"))

__all__ = ["cloud", "pristine", "run_directory"]  # fixtures


class Lab:
    """A VM of the small cloud whose machine is real."""

    def __init__(self, cloud: SmallCloud, driver: QemuHypervisor, directory: Path) -> None:
        self.cloud = cloud
        self.driver = driver
        self.directory = directory
        self.store = SnapshotStore.of(cloud)
        self.primary = PrimaryStorage(directory / "primary")
        self.primary.open()
        pools = PrimaryPools(
            cloud.database,
            self.primary,
            HostPoolDirectories(directory / "primary", directory / "pools", PoolMounts(directory / "none")),
            PrimaryStorage,
            host_id=cloud.host.id,
        )
        self.volumes = Volumes(cloud.database, pools, driver, cloud.machines.lock)
        self.service = VolumeSnapshots(
            cloud.database,
            pools,
            driver,
            cloud.machines.lock,
            self.volumes,
            SnapshotFiles(cloud.clock, cloud.database, cloud.agents, deferToThread),
            cloud.settings,
        )
        self.vm: Instance
        self.volume: Volume
        self.patterns = 0

    async def start(
        self,
        fill: Callable[[Path], None] = lambda path: write_template(path),
        size_bytes: int = SIZE,
        memory_mib: int = 32,
    ) -> None:
        """Start a VM whose root disk is a linked clone of a template, by default with 8 MiB of data."""
        self.vm = await deploy_running(self.cloud)
        volume = present(self.cloud.database.run_now(volumes.root_of, self.vm.id))
        base = self.directory / "base.qcow2"
        fill(base)
        path = await self.primary.create_clone(volume.uuid, base, "qcow2")
        self.volume = self.cloud.database.run_now(
            volumes.update, volume.id, path=str(path), state=VolumeState.READY, size_bytes=size_bytes
        )
        spec = machine(self.directory, name=self.vm.instance_name, disk=Disk(path), memory_mib=memory_mib)
        await self.driver.start(spec)

    async def write(self, at: str, length: str = "1M", *, zero: bool = False) -> None:
        self.patterns += 1
        how = "-z" if zero else f"-P {self.patterns % 255 + 1}"

        async def send() -> str:
            session = await self.driver._domains[self.vm.instance_name].session()
            answers = []
            for command in (f"write {how} {at} {length}", "flush"):
                line = f'qemu-io disk0 "{command}"'
                answers.append(str(await session.execute("human-monitor-command", {"command-line": line})))
            return "".join(answers)

        assert "error" not in (output := await in_asyncio(send())).lower(), output

    async def take(self) -> Snapshot:
        snapshot = await self.service.create(NewSnapshot(self.volume.id, None, None))
        return await self.service.take(snapshot.id)

    def moved_bytes(self, snapshot: Snapshot) -> int:
        """Return how many bytes of a snapshot the SSVM got."""
        pieces = self.cloud.ssvm_peer.params_of(SNAPSHOT_WRITE)
        return sum(len(piece.data) for piece in pieces if piece.place.snapshot_id == snapshot.uuid)

    def copy_disk(self, name: str) -> Path:
        """Return a raw copy of what the disk has now."""
        path = self.directory / f"{name}.raw"
        disk = str(self.primary.volume_path(self.volume.uuid))
        qemu_img("convert", "-U", "-f", "qcow2", "-O", "raw", disk, str(path))
        return path

    async def restored(self, snapshot: Snapshot) -> Path:
        """Restore a snapshot to the file of a volume of its own."""
        chain = await self.service._files.chain(snapshot)
        return await self.primary.restore_volume(snapshot.uuid, chain, snapshot.size_bytes or 0)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write_template(path: Path) -> None:
    qemu_img("create", "-f", "qcow2", str(path), str(SIZE))
    run("qemu-io", "-f", "qcow2", "-c", "write -P 0xbb 0 8M", str(path))


def qemu_img(*words: str) -> None:
    run("qemu-img", *words)


def has_content(disk: Path, raw: Path) -> bool:
    command = ["qemu-img", "compare", "-U", "-f", "qcow2", "-F", "raw", str(disk), str(raw)]
    compared = subprocess.run(command, check=False, capture_output=True, text=True)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    return True


@pytest_twisted.async_yield_fixture
async def lab(cloud: SmallCloud, tmp_path: Path, run_directory: Path) -> AsyncIterator[Lab]:
    driver = QemuHypervisor(run_directory, NoTaps(), Accelerator.TCG)
    lab = Lab(cloud, driver, tmp_path)
    await lab.start()
    yield lab
    await driver.stop(lab.vm.instance_name, forced=True)
    await driver.close()


@pytest_twisted.ensureDeferred
async def test_a_root_disk_is_snapshotted_while_it_runs_and_restored(lab: Lab) -> None:
    await lab.write("20M", "4M")
    first = await lab.take()
    after_first = lab.copy_disk("first")
    await lab.write("1M", "2M")
    await lab.write("21M", "1M", zero=True)
    second = await lab.take()
    after_second = lab.copy_disk("second")
    assert (first.parent_id, second.parent_id) == (None, first.id)
    moved, changed = lab.moved_bytes(second), 2 * MIB
    assert changed <= moved <= 1.1 * changed, "zeros, and the zeros in tables, are not moved"
    for snapshot, content in ((first, after_first), (second, after_second)):
        assert has_content(await lab.restored(snapshot), content)
    # what is on the store is a chain that any program reads
    stored = lab.store.files()[second.uuid]
    assert f"backing file: {first.uuid}" in run("qemu-img", "info", "--backing-chain", str(stored))

    owner = lab.volume
    new = await lab.volumes.create(
        NewVolume(
            "restored", 2 * SIZE, owner.account_id, owner.domain_id, 1, lab.vm.zone_id, lab.cloud.host.id
        )
    )
    made = await lab.service.restore(second.id, new.id)
    assert await lab.primary.volume_size_bytes(made.uuid) == 2 * SIZE

    await lab.driver.stop(lab.vm.instance_name, forced=True)
    await lab.cloud.machines.stop(lab.vm.id, forced=True)
    await lab.service.revert(first.id)
    assert has_content(lab.primary.volume_path(lab.volume.uuid), after_first)


@pytest.mark.timeout(0)  # `--timeout` does not change what a mark sets
@pytest_twisted.ensureDeferred
async def test_chains_of_five_keep_their_content_in_any_order_of_deletion(lab: Lab) -> None:
    order = random.Random(5)
    for number in range(CHAINS):
        chain: list[tuple[Snapshot, Path]] = []
        for place in range(5):
            await lab.write(f"{order.randrange(60)}M", "2M")
            await lab.write(f"{order.randrange(60)}M", "1M", zero=True)
            snapshot = await lab.take()
            chain.append((snapshot, lab.copy_disk(f"content-{place}")))
        assert [each.parent_id is None for each, _ in chain] == [True, False, False, False, False]
        for gone in order.sample(chain, 5):
            await lab.service.delete(gone[0].id)
            chain.remove(gone)
            # all of the first chain; of the others one, which has the same files as those before it
            for snapshot, content in chain if number == 0 else order.sample(chain, min(1, len(chain))):
                restored = await lab.restored(snapshot)
                assert has_content(restored, content)
                restored.unlink()
        assert lab.store.files() == {}


@pytest_twisted.ensureDeferred
async def test_a_stopped_disk_is_copied_and_the_next_snapshot_is_an_increment(lab: Lab) -> None:
    await lab.driver.stop(lab.vm.instance_name, forced=True)
    first = await lab.take()
    content = lab.copy_disk("first")
    spec = machine(
        lab.directory, name=lab.vm.instance_name, disk=Disk(lab.primary.volume_path(lab.volume.uuid))
    )
    await lab.driver.start(spec)
    await lab.write("30M")
    second = await lab.take()
    assert second.parent_id == first.id
    assert has_content(await lab.restored(first), content)
    assert has_content(await lab.restored(second), lab.copy_disk("second"))

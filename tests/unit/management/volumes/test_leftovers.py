# SPDX-License-Identifier: Apache-2.0
"""What a kill or a pool that did not answer has left on primary storage, and what of it is deleted."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import cast

import pytest
import pytest_twisted

from present import present
from shared_pools import create_pool, create_volume
from small_cloud import SmallCloud
from systemvm.management.primary.pools import StorageByPool
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.primary.storage import PrimaryStorage
from systemvm.management.snapshots.transitions import NewSnapshot
from systemvm.management.state import snapshots, volumes
from systemvm.management.state.jobs import create as create_job
from systemvm.management.state.snapshots import Snapshot
from systemvm.management.state.status import SnapshotState, VolumeState
from systemvm.management.volumes.leftovers import Leftovers, ListedStorage
from systemvm.management.volumes.transitions import NewVolume
from user_vms import deploy_running


class Places:
    """Real directories for the pools that this host can use now."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.down: set[int | None] = set()

    async def of(self, pool_id: int | None) -> PrimaryStorage:
        if pool_id in self.down:
            raise PrimaryStorageError("storage pool does not answer")
        storage = PrimaryStorage(self._directory / f"storage-{pool_id}")
        storage.open()
        return storage

    async def put(self, pool_id: int | None, name: str, *, is_snapshot: bool = False) -> Path:
        storage = await self.of(pool_id)
        path = storage.snapshot_path(name) if is_snapshot else storage.volume_path(name)
        path.touch()
        return path


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


def leftovers(cloud: SmallCloud, places: Places, host_id: int | None = None) -> Leftovers:
    primary = cast("StorageByPool[ListedStorage]", places)
    return Leftovers(
        cloud.database, primary, cloud.volumes, cloud.uefi_variables, host_id=host_id or cloud.host.id
    )


def set_state(cloud: SmallCloud, snapshot: Snapshot, state: SnapshotState) -> None:
    cloud.database.run_now(snapshots.update, snapshot.id, state=state)


@pytest_twisted.ensureDeferred
async def test_files_of_moved_volumes_and_ended_snapshots_are_deleted(
    cloud: SmallCloud, places: Places
) -> None:
    pool = await create_pool(cloud)
    volume = await create_volume(cloud, pool)
    taken = [await cloud.snapshots.create(NewSnapshot(volume.id, None, None)) for _ in range(3)]
    for snapshot, state in zip(taken, ("BackedUp", "Error", "BackingUp"), strict=True):
        set_state(cloud, snapshot, SnapshotState(state))
    moved, kept = await places.put(None, volume.uuid), await places.put(pool.id, volume.uuid)
    files = [await places.put(pool.id, each.uuid, is_snapshot=True) for each in taken]
    strangers = [await places.put(pool.id, str(uuid.uuid4())), kept.with_name("of-somebody.qcow2")]
    strangers[1].touch()

    await leftovers(cloud, places, host_id=cloud.host.id + 1).delete()
    assert moved.exists() and files[0].exists(), "they are another host's"
    places.down = {pool.id}
    await leftovers(cloud, places).delete()
    assert (moved.exists(), files[0].exists()) == (True, True), "the pool does not answer"
    places.down.clear()
    await leftovers(cloud, places).delete()
    assert not moved.exists()
    assert [path.exists() for path in files] == [False, False, True], "the last one is being taken"
    assert kept.exists() and all(path.exists() for path in strangers)


@pytest_twisted.ensureDeferred
async def test_uefi_variables_of_deleted_disks_are_deleted_and_others_stay(
    cloud: SmallCloud, places: Places
) -> None:
    roots = [
        present(cloud.database.run_now(volumes.root_of, (await deploy_running(cloud)).id)) for _ in range(2)
    ]
    names = [*(root.uuid for root in roots), str(uuid.uuid4())]
    for name in names:
        cloud.uefi_variables.path(name).touch()
    cloud.database.run_now(volumes.remove, roots[0].id)
    await leftovers(cloud, places).delete()
    assert [cloud.uefi_variables.path(name).exists() for name in names] == [False, True, True]


@pytest_twisted.ensureDeferred
async def test_a_file_stays_that_is_not_certainly_a_second_one(cloud: SmallCloud, places: Places) -> None:
    """Two pools can be one directory: by a symlink, or by two addresses of one server."""
    pool = await create_pool(cloud)
    here, missing = [await create_volume(cloud, pool, name=name) for name in ("here", "missing")]
    own = await places.put(pool.id, here.uuid)
    same = own.parent.parent.with_name("storage-None") / "volumes" / own.name
    await places.of(None)
    same.hardlink_to(own)  # also has its inode
    only = await places.put(None, missing.uuid)
    await leftovers(cloud, places).delete()
    assert own.exists() and same.exists() and only.exists()


@pytest_twisted.ensureDeferred
async def test_a_volume_that_was_created_without_a_job_is_deleted(cloud: SmallCloud, places: Places) -> None:
    new = NewVolume("data", 1 << 30, 2, 1, 1, cloud.zone.id, cloud.host.id)
    first, second = [await cloud.volumes.create(new) for _ in range(2)]
    cloud.database.run_now(
        create_job, command="createVolume", arguments={}, account_id=2, instance_uuid=second.uuid
    )
    await leftovers(cloud, places).claim_unmade()
    await cloud.volumes.finish_deletions()
    states = [cloud.database.run_now(volumes.by_id, each.id).state for each in (first, second)]
    assert states == [VolumeState.DESTROYED, VolumeState.ALLOCATED]
    assert cloud.database.run_now(volumes.by_id, first.id).removed is not None

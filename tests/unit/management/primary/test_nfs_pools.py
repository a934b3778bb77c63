# SPDX-License-Identifier: Apache-2.0
"""Storage pools on NFS are mounted when they are used, and never written to when they are not mounted."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted

from shared_pools import create_volume
from small_cloud import SmallCloud
from systemvm.management.mount_helper import MountHelper
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import storage_pools
from systemvm.management.state.storage_pools import StoragePool
from systemvm.service.errors import SystemVmError

URL = "nfs://192.0.2.1/export/primary"


async def create_nfs_pool(cloud: SmallCloud) -> StoragePool:
    answer = await cloud.call("createStoragePool", name="nfs", zoneid=cloud.zone.uuid, url=URL)
    pool = answer["storagepool"]
    assert (pool["type"], pool["ipaddress"], pool["path"]) == (
        "NetworkFilesystem",
        "192.0.2.1",
        "/export/primary",
    )
    return cloud.database.run_now(storage_pools.by_uuid, pool["id"])


@pytest_twisted.ensureDeferred
async def test_an_export_is_mounted_for_a_pool_and_unmounted_with_it(cloud: SmallCloud) -> None:
    pool = await create_nfs_pool(cloud)
    volume = await create_volume(cloud, pool)
    directory = cloud.mounter.mounts / pool.uuid
    assert (directory / f"{volume.uuid}.qcow2").exists()
    await cloud.mounter.unmount(pool)  # as after a start of the host
    cloud.mounter.fails_with = PrimaryStorageError("server is gone")
    with pytest.raises(PrimaryStorageError, match="server is gone"):
        await cloud.volumes.delete(volume.id)
    [listed] = (await cloud.call("listStoragePools", id=pool.uuid))["storagepool"]
    assert listed["state"] == "Down"
    cloud.mounter.fails_with = None
    await cloud.volumes.finish_deletions()
    assert not (directory / f"{volume.uuid}.qcow2").exists()
    await cloud.call("deleteStoragePool", id=pool.uuid)
    assert cloud.mounter.mountinfo.read_text() == ""


@pytest_twisted.ensureDeferred
async def test_an_export_that_cannot_be_mounted_makes_no_pool(cloud: SmallCloud) -> None:
    cloud.mounter.fails_with = PrimaryStorageError("192.0.2.1:/export/primary: mount ended with status 32")
    with pytest.raises(SystemVmError, match="mount ended with status 32"):
        await cloud.call("createStoragePool", name="nfs", zoneid=cloud.zone.uuid, url=URL)
    assert cloud.database.run_now(storage_pools.list_created) == []


@pytest_twisted.ensureDeferred
async def test_an_absent_mount_helper_is_named_by_its_socket(cloud: SmallCloud, tmp_path: Path) -> None:
    pool = await create_nfs_pool(cloud)
    with pytest.raises(PrimaryStorageError, match="mount helper does not answer") as caught:
        await MountHelper(tmp_path / "mount.sock").mount(pool)
    assert caught.value.hint == "check that systemvm-mounthelper.socket is active"

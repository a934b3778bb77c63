# SPDX-License-Identifier: Apache-2.0
"""Storage pools on NFS are mounted when they are used, and never written to when they are not mounted."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import attrs
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from settling import settled
from shared_pools import create_volume
from small_cloud import SmallCloud
from systemvm.management.mount_helper import PoolMountError, PoolMounts
from systemvm.management.primary import pool_directories, pool_service
from systemvm.management.primary.pool_directories import StaleDirectoryError
from systemvm.management.primary.qemu_img import PrimaryStorageError
from systemvm.management.state import storage_pools
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.zone_model import pools
from systemvm.service import unix_calls
from systemvm.service.errors import FailureCode, SystemVmError
from systemvm.service.slowness import MAX_SCALE
from systemvm.wire.mount_failure import MountFailure

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
    await cloud.mounter.unmount(pool.uuid, pool.name)  # as after a start of the host
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


@pytest.mark.parametrize("is_released", [True, False])
@pytest_twisted.ensureDeferred
async def test_what_fails_after_the_mount_leaves_none(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch, is_released: bool
) -> None:
    mount = cloud.mounter.mount

    async def mount_and_fail(pool: StoragePool) -> None:
        await mount(pool)
        if not is_released:
            cloud.mounter.fails_with = PrimaryStorageError("something uses it")
        raise PrimaryStorageError("the server refuses access")

    monkeypatch.setattr(cloud.mounter, "mount", mount_and_fail)
    with pytest.raises(SystemVmError, match="the server refuses access"):
        await cloud.call("createStoragePool", name="nfs", zoneid=cloud.zone.uuid, url=URL)
    assert (cloud.mounter.mountinfo.read_text() == "") is is_released


@pytest_twisted.ensureDeferred
async def test_an_export_that_the_daemon_cannot_use_is_unmounted(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(directory: Path, own: Path) -> None:
        raise PrimaryStorageError("the daemon or QEMU cannot write there")

    monkeypatch.setattr(pool_directories, "check_directory", check)
    with pytest.raises(SystemVmError, match="cannot write there"):
        await cloud.call("createStoragePool", name="nfs", zoneid=cloud.zone.uuid, url=URL)
    assert cloud.mounter.mountinfo.read_text() == ""


@pytest_twisted.ensureDeferred
async def test_a_server_that_hangs_after_the_mount_is_reported_and_unmounted_later(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: Deferred[None] = Deferred()
    monkeypatch.setattr(pool_directories, "deferToThread", lambda *_: answers)
    made = Deferred.fromCoroutine(
        cloud.call("createStoragePool", name="nfs", zoneid=cloud.zone.uuid, url=URL)
    )
    await settled(cloud.database)
    cloud.clock.advance(MAX_SCALE * pool_service.PREPARE_S)
    with pytest.raises(PoolMountError, match=r"192\.0\.2\.1:/export/primary does not answer") as raised:
        await made
    assert raised.value.failure is MountFailure.HANGS
    assert cloud.database.run_now(storage_pools.list_created) == []
    await cloud.storage_pools.unmount_unknown()  # not what is still being tried
    assert cloud.mounter.mountinfo.read_text() != ""
    monkeypatch.undo()
    answers.callback(None)
    await settled(cloud.database)
    assert cloud.mounter.mountinfo.read_text() == ""


@pytest.mark.parametrize("is_deleted", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_pool_that_is_being_deleted_is_not_mounted_again(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch, is_deleted: bool
) -> None:
    pool = await create_nfs_pool(cloud)
    delete = pools.delete_pool

    async def list_pools() -> str:
        return str((await cloud.call("listStoragePools", id=pool.uuid))["storagepool"][0]["state"])

    close = cloud.storage_pools.close

    async def close_and_list(closed: StoragePool) -> None:
        await close(closed)
        assert await list_pools() == "Down"

    def refuse(*_: object) -> StoragePool:
        raise PrimaryStorageError("a volume was made meanwhile")

    monkeypatch.setattr(cloud.storage_pools, "close", close_and_list)
    monkeypatch.setattr(pools, "delete_pool", delete if is_deleted else refuse)
    if is_deleted:
        await cloud.call("deleteStoragePool", id=pool.uuid)
        assert cloud.mounter.mountinfo.read_text() == ""
        return
    with pytest.raises(PrimaryStorageError, match="a volume was made"):
        await cloud.call("deleteStoragePool", id=pool.uuid)
    assert await list_pools() == "Up"


@pytest_twisted.ensureDeferred
async def test_an_absent_mount_helper_is_named_by_its_socket(cloud: SmallCloud, tmp_path: Path) -> None:
    pool = await create_nfs_pool(cloud)
    with pytest.raises(PrimaryStorageError, match="mount helper does not answer") as caught:
        await PoolMounts(tmp_path / "mount.sock").mount(pool)
    assert caught.value.hint == "check that systemvm-mounthelper.socket is active"


@pytest_twisted.ensureDeferred
async def test_a_pool_stays_when_something_uses_its_mount(cloud: SmallCloud) -> None:
    pool = await create_nfs_pool(cloud)
    cloud.mounter.fails_with = PoolMountError(MountFailure.IN_USE, "something uses it", "stop it")
    with pytest.raises(PoolMountError) as caught:
        await cloud.call("deleteStoragePool", id=pool.uuid)
    assert caught.value.code is FailureCode.IN_USE
    assert cloud.database.run_now(storage_pools.by_id, pool.id).removed is None
    cloud.mounter.fails_with = None
    await cloud.call("deleteStoragePool", id=pool.uuid)


@pytest_twisted.ensureDeferred
async def test_a_stale_mount_is_mounted_again_once(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await create_nfs_pool(cloud)
    answers = [StaleDirectoryError("stale"), None, StaleDirectoryError("stale"), StaleDirectoryError("stale")]

    def check(directory: Path, own: Path) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(pool_directories, "check_directory", check)
    await cloud.pools.open(pool)
    with pytest.raises(StaleDirectoryError):
        await cloud.pools.open(pool)
    assert answers == []


def test_a_stale_directory_is_told_from_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(path: Path) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with pytest.raises(PrimaryStorageError) as missing:
        pool_directories.check_directory(tmp_path / "missing", tmp_path)
    monkeypatch.setattr(Path, "stat", stale)
    with pytest.raises(StaleDirectoryError):
        pool_directories.check_directory(tmp_path, tmp_path)
    assert not isinstance(missing.value, StaleDirectoryError)


@pytest.mark.parametrize(
    ("reason", "failure", "code"),
    [
        ("mount_in_use", MountFailure.IN_USE, FailureCode.IN_USE),
        ("nfs_hangs", MountFailure.HANGS, FailureCode.UNAVAILABLE),
        ("a reason of a newer helper", MountFailure.FAILED, FailureCode.UNAVAILABLE),
    ],
)
@pytest_twisted.ensureDeferred
async def test_the_helpers_reason_reaches_the_daemon(
    cloud: SmallCloud, tmp_path: Path, reason: str, failure: MountFailure, code: FailureCode
) -> None:
    pool = await create_nfs_pool(cloud)
    with unix_calls.bind(tmp_path / "mount.sock") as listener:

        def refuse(request: dict[str, object], descriptors: list[int]) -> tuple[dict[str, object], list[int]]:
            raise unix_calls.RefusedError("why", "a hint", reason)

        helper = threading.Thread(target=unix_calls.serve_one, args=(listener, os.getuid(), refuse))
        helper.start()
        with pytest.raises(PoolMountError) as caught:
            await PoolMounts(tmp_path / "mount.sock").mount(pool)
        helper.join()
    assert (caught.value.failure, caught.value.code, caught.value.hint) == (failure, code, "a hint")


@pytest_twisted.ensureDeferred
async def test_what_no_pool_has_is_unmounted_when_nothing_uses_it(cloud: SmallCloud, tmp_path: Path) -> None:
    pool = await create_nfs_pool(cloud)
    lost = attrs.evolve(pool, uuid="0f9d3c52-7a54-4f0b-8a86-1d1f3b0f2c11")
    await cloud.mounter.mount(lost)
    (cloud.mounter.mounts / "of somebody else").mkdir()
    cloud.mounter.fails_with = PoolMountError(MountFailure.IN_USE, "something uses it", "stop it")
    await cloud.storage_pools.unmount_unknown()
    cloud.mounter.fails_with = None
    assert (cloud.mounter.mounts / lost.uuid).exists()
    cloud.storage_pools.start()
    await settled(cloud.database)
    cloud.storage_pools.stop()
    left = {path.name for path in cloud.mounter.mounts.iterdir()}
    assert left == {pool.uuid, "of somebody else"}


@pytest_twisted.ensureDeferred
async def test_a_pool_that_is_being_created_stays_mounted(
    cloud: SmallCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, was_mounted = cloud.storage_pools._prepare_in_time, []

    async def prepare_and_unmount(pool: StoragePool) -> None:
        await prepare(pool)
        await cloud.storage_pools.unmount_unknown()
        was_mounted.append((cloud.mounter.mounts / pool.uuid).exists())

    monkeypatch.setattr(cloud.storage_pools, "_prepare_in_time", prepare_and_unmount)
    await create_nfs_pool(cloud)
    assert was_mounted == [True]

# SPDX-License-Identifier: Apache-2.0
"""Storage pools of a small cloud, made by its API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from small_cloud import SmallCloud
from systemvm.management.state import storage_pools, volumes
from systemvm.management.state.storage_pools import StoragePool
from systemvm.management.state.volumes import Volume


def url_of(directory: Path) -> str:
    return f"SharedMountPoint://localhost{directory}"


async def create_pool(cloud: SmallCloud, name: str = "shared", **more: Any) -> StoragePool:
    directory = cloud.primary.directory.parent / f"{cloud.primary.directory.name}-{name}"
    directory.mkdir(exist_ok=True)
    answer = await cloud.call(
        "createStoragePool", **{"name": name, "zoneid": cloud.zone.uuid, "url": url_of(directory)} | more
    )
    assert answer["storagepool"]["state"] == "Up"
    return cloud.database.run_now(storage_pools.by_uuid, answer["storagepool"]["id"])


async def create_volume(cloud: SmallCloud, pool: StoragePool, **more: Any) -> Volume:
    job = await cloud.job("createVolume", **{"name": "data", "size": 2, "storageid": pool.uuid} | more)
    assert job.result_code == 0, job.result
    return cloud.database.run_now(volumes.by_uuid, job.result["volume"]["id"])

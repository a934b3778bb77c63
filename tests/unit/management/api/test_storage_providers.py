# SPDX-License-Identifier: Apache-2.0
"""Storage providers and tags, as listStorageProviders and listStorageTags answer them."""

from __future__ import annotations

import pytest_twisted

from api_requests import refusal
from small_cloud import SmallCloud
from systemvm.management.api.errors import ErrorCode
from systemvm.management.state import storage_pools


@pytest_twisted.ensureDeferred
async def test_providers_are_those_that_pools_and_stores_can_have(cloud: SmallCloud) -> None:
    images = (await cloud.call("listStorageProviders", type="image"))["dataStoreProvider"]
    assert images == [{"name": "NFS", "type": "image"}, {"name": "S3", "type": "image"}]
    primary = (await cloud.call("listStorageProviders", type="Primary"))["dataStoreProvider"]
    [pool] = (await cloud.call("listStoragePools"))["storagepool"]
    assert primary == [{"name": pool["provider"], "type": "primary"}]
    s3 = (await cloud.call("listStorageProviders", type="image", keyword="s"))["dataStoreProvider"]
    assert [each["name"] for each in s3] == ["NFS", "S3"]
    assert await cloud.call("listStorageProviders", type="image", keyword="swift") == {}


@pytest_twisted.ensureDeferred
async def test_providers_of_other_kinds_and_other_callers_are_refused(cloud: SmallCloud) -> None:
    for wrong in ({}, {"type": ""}, {"type": "object"}, {"type": "image", "zoneid": cloud.zone.uuid}):
        error = await refusal(cloud, "listStorageProviders", **wrong)
        assert error.code is ErrorCode.PARAMETER, wrong
    for command in ("listStorageProviders", "listStorageTags"):
        error = await refusal(cloud, command, cloud.user, type="image")
        assert error.code is ErrorCode.UNSUPPORTED


@pytest_twisted.ensureDeferred
async def test_tags_are_listed_once_for_each_pool(cloud: SmallCloud) -> None:
    assert await cloud.call("listStorageTags") == {}
    [pool] = cloud.database.run_now(storage_pools.list_pools)
    cloud.database.run_now(storage_pools.rows.update, pool.id, tags="ssd,fast")
    found = (await cloud.call("listStorageTags"))["storagetag"]
    assert [(each["name"], each["poolid"]) for each in found] == [("ssd", pool.uuid), ("fast", pool.uuid)]
    assert found[0]["id"] != found[1]["id"]
    assert (await cloud.call("listStorageTags"))["storagetag"] == found
    assert (await cloud.call("listStorageTags", keyword="FA"))["storagetag"] == found[1:]

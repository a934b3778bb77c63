# SPDX-License-Identifier: Apache-2.0
"""Other keys of a bucket: checked by the SSVMs first, taken then, and in no answer, event or error."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.image_stores.bucket_change import BucketChange
from systemvm.management.image_stores.buckets import StoreKeys
from systemvm.management.image_stores.definition_error import StoreDefinitionError
from systemvm.management.image_stores.inspection import NoSsvmError
from systemvm.management.state import events, store_buckets, zones
from systemvm.rpc.core.errors import RpcError
from systemvm.wire import storage
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.storage import Store, StoreStats
from systemvm.wire.transfer_failure import TransferFailure

OLD = {"accesskey": "AKID", "secretkey": "very-secret"}
NEW = {"accesskey": "AKID2", "secretkey": "most-secret"}


def refused(store: Store) -> RpcError | StoreStats:
    """Answer as the server does that knows the old keys only."""
    if store.s3 is not None and store.s3.access_key == "AKID":
        return StoreStats(0, 0)
    return RpcError.refused(TransferFailure.STORE_REFUSES, "S3 server refused a list: AccessDenied", "check")


@pytest.fixture(autouse=True)
def _answers(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.STORAGE_SETUP] = lambda store: StoreStats(0, 0)


def details(values: dict[str, str]) -> dict[str, str]:
    return {f"details[0].{key}": value for key, value in values.items()}


async def added(cloud: SmallCloud, **more: str) -> str:
    values = OLD | {"endpoint": "s3.example.test", "bucket": "images"} | more
    answer = await cloud.call("addImageStore", provider="S3", name="bucket", **details(values))
    return str(answer["imagestore"]["id"])


async def change(cloud: SmallCloud, uuid: str, **values: str) -> dict[str, Any]:
    answer = await cloud.call("updateImageStore", id=uuid, **details(values))
    return dict(answer["imagestore"])


def known(cloud: SmallCloud, uuid: str) -> S3Bucket:
    row = cloud.database.run_now(zones.store_by_uuid, uuid)
    bucket = cloud.database.run_now(StoreKeys(cloud.seal).complete, row).s3
    assert bucket is not None
    return bucket


def sent_keys(cloud: SmallCloud) -> list[str]:
    return [store.s3.access_key for store in cloud.ssvm_peer.params_of(storage.STORAGE_SETUP)]


@pytest_twisted.ensureDeferred
async def test_new_keys_are_used_by_the_ssvms_and_are_in_no_answer(cloud: SmallCloud) -> None:
    uuid = await added(cloud)
    answer = await change(cloud, uuid, **NEW)
    bucket = known(cloud, uuid)
    assert (bucket.access_key, bucket.secret_key) == ("AKID2", "most-secret")
    assert sent_keys(cloud) == ["AKID", "AKID2", "AKID2"], "checked, and sent again when they are taken"
    recorded = cloud.database.run_now(events.newest, 50)
    assert "Image store bucket has other keys" in [each.description for each in recorded]
    assert "most-secret" not in f"{answer} {recorded} {bucket}"
    row = cloud.database.run_now(zones.store_by_uuid, uuid)
    kept = cloud.database.run_now(store_buckets.of_store, row.id)
    assert kept is not None
    assert b"most-secret" not in kept.sealed_secret


@pytest_twisted.ensureDeferred
async def test_keys_that_the_server_refuses_are_not_taken_and_the_old_ones_are_sent_again(
    cloud: SmallCloud,
) -> None:
    uuid = await added(cloud)
    cloud.ssvm_peer.answers[storage.STORAGE_SETUP] = refused
    with pytest.raises(RpcError, match="AccessDenied") as failed:
        await change(cloud, uuid, **NEW)
    assert "most-secret" not in f"{failed.value} {failed.value.hint}"
    assert known(cloud, uuid).access_key == "AKID"
    assert sent_keys(cloud) == ["AKID", "AKID2", "AKID"]
    recorded = cloud.database.run_now(events.newest, 50)
    assert "Image store bucket has other keys" not in [each.description for each in recorded]


@pytest_twisted.ensureDeferred
async def test_without_an_ssvm_that_can_check_them_keys_are_not_taken(cloud: SmallCloud) -> None:
    uuid = await added(cloud)
    cloud.agents.disconnect("s-1-VM")
    with pytest.raises(NoSsvmError, match="cannot be checked"):
        await change(cloud, uuid, **NEW)
    assert known(cloud, uuid).access_key == "AKID"


@pytest_twisted.ensureDeferred
async def test_a_capacity_changes_without_a_check(cloud: SmallCloud) -> None:
    uuid = await added(cloud)
    cloud.agents.disconnect("s-1-VM")
    assert (await change(cloud, uuid, capacitybytes="1000"))["disksizetotal"] == 1000
    answer = await cloud.call("updateImageStore", id=uuid, capacitybytes="0")
    assert "disksizetotal" not in answer["imagestore"], "any amount"
    assert known(cloud, uuid).secret_key == "very-secret"


@pytest_twisted.ensureDeferred
async def test_region_and_links_change_and_the_keys_stay(cloud: SmallCloud) -> None:
    uuid = await added(cloud)
    await change(cloud, uuid, region="eu-north-1", publiclinks="false")
    bucket = known(cloud, uuid)
    assert (bucket.region, bucket.secret_key) == ("eu-north-1", "very-secret")
    row = cloud.database.run_now(zones.store_by_uuid, uuid)
    kept = cloud.database.run_now(store_buckets.of_store, row.id)
    assert kept is not None
    assert not kept.has_public_links


@pytest_twisted.ensureDeferred
async def test_an_export_has_neither_keys_nor_a_capacity(cloud: SmallCloud) -> None:
    for parameters in (details(NEW), {"capacitybytes": "5"}):
        with pytest.raises(ApiError, match="is not a bucket"):
            await cloud.call("updateImageStore", id=cloud.store.uuid, **parameters)
    assert cloud.ssvm_peer.params_of(storage.STORAGE_SETUP) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"secretkey": "most-secret"}, "secretkey alone cannot be replaced: accesskey is missing"),
        ({"accesskey": "AKID2"}, "accesskey alone cannot be replaced: secretkey is missing"),
        (NEW | {"bucket": "other"}, "bucket is not a detail"),
        (NEW | {"endpoint": "s3.other.test"}, "endpoint is not a detail"),
        (NEW | {"secretkey": ""}, "secretkey must have 1 to 255"),
        (NEW | {"accesskey": "a\tb"}, "accesskey must have 1 to 255 printable"),
        ({"cacertificate": "x"}, "not a certificate"),
        ({"capacitybytes": "-1"}, "not a number above -1"),
        ({"publiclinks": "maybe"}, "must be true or false"),
    ],
)
def test_wrong_changes_are_refused_without_the_secret(values: dict[str, str], message: str) -> None:
    with pytest.raises(StoreDefinitionError, match=message) as wrong:
        BucketChange.of_details(values)
    assert "most-secret" not in f"{wrong.value} {wrong.value.hint}"


def test_a_change_does_not_show_its_keys() -> None:
    assert "secret" not in repr(BucketChange.of_details(NEW)).replace("secret_key", "")

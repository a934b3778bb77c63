# SPDX-License-Identifier: Apache-2.0
"""Buckets as image stores: their details, their sealed keys, their sizes."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from small_cloud import SmallCloud
from systemvm.management.api.errors import ApiError
from systemvm.management.image_stores.buckets import BucketDefinition, StoreKeys
from systemvm.management.image_stores.capacity import record_usage
from systemvm.management.image_stores.definition_error import StoreDefinitionError
from systemvm.management.pki.keystore import KeystoreError
from systemvm.management.pki.seal import Seal
from systemvm.management.state import store_buckets, templates, zones
from systemvm.wire import storage
from systemvm.wire.acknowledgement import Acknowledgement
from systemvm.wire.s3_bucket import S3Bucket, S3BucketError, parse_bucket_url
from systemvm.wire.storage import DownloadState, Store, StoreStats

DETAILS = {"accesskey": "AKID", "secretkey": "very-secret", "endpoint": "S3.example.test", "bucket": "images"}


@pytest.fixture(autouse=True)
def _answers(cloud: SmallCloud) -> None:
    cloud.ssvm_peer.answers[storage.STORAGE_SETUP] = lambda store: StoreStats(0, 0)
    cloud.ssvm_peer.answers[storage.STORAGE_RELEASE] = lambda store: Acknowledgement()


async def added(cloud: SmallCloud, **more: str) -> dict[str, Any]:
    details = {f"details[0].{key}": value for key, value in (DETAILS | more).items()}
    answer = await cloud.call("addImageStore", provider="S3", name="bucket", **details)
    return dict(answer["imagestore"])


@pytest_twisted.ensureDeferred
async def test_only_the_setup_has_the_keys_and_no_answer_has_them(cloud: SmallCloud) -> None:
    store = await added(cloud, region="eu-north-1")
    [sent] = cloud.ssvm_peer.params_of(storage.STORAGE_SETUP)
    bucket = S3Bucket("s3.example.test", 443, "images", True, "eu-north-1", None, "AKID", "very-secret")
    assert sent == Store.of_bucket(bucket)
    assert "very-secret" not in repr(sent)
    listed = (await cloud.call("listImageStores", provider="s3"))["imagestore"]
    assert listed == [store]
    assert (store["url"], store["protocol"], store["providername"]) == (
        "https://s3.example.test/images", "https", "S3",
    )  # fmt: skip
    assert "very-secret" not in str(listed)
    row = cloud.database.run_now(zones.store_by_uuid, store["id"])
    assert row.wire.s3 == S3Bucket("s3.example.test", 443, "images")


@pytest_twisted.ensureDeferred
async def test_the_secret_is_sealed_and_forgotten_with_the_store(cloud: SmallCloud) -> None:
    store = await added(cloud)
    row = cloud.database.run_now(zones.store_by_uuid, store["id"])
    kept = cloud.database.run_now(store_buckets.of_store, row.id)
    assert kept is not None
    assert b"very-secret" not in kept.sealed_secret
    with pytest.raises(KeystoreError):
        cloud.database.run_now(StoreKeys(Seal(bytes(32))).complete, row)
    await cloud.call("deleteImageStore", id=store["id"])
    assert cloud.database.run_now(store_buckets.of_store, row.id) is None
    assert cloud.ssvm_peer.params_of(storage.STORAGE_RELEASE) == [row.wire]


@pytest_twisted.ensureDeferred
async def test_a_bucket_has_the_capacity_that_it_is_given(cloud: SmallCloud) -> None:
    store = await added(cloud, capacitybytes="1000")
    row = cloud.database.run_now(zones.store_by_uuid, store["id"])
    assert (row.capacity_bytes, row.used_bytes) == (1000, 0)
    template, _ = cloud.add_template()
    ref = cloud.database.run_now(templates.add_store_ref, template.id, row.id, None)
    cloud.database.run_now(
        templates.update_store_ref, ref.id, state=DownloadState.DOWNLOADED, physical_size_bytes=900
    )
    measured = cloud.database.run_now(record_usage, row.id, StoreStats(0, 0), 0.75)
    assert (measured.capacity_bytes, measured.used_bytes) == (1000, 900)


@pytest_twisted.ensureDeferred
async def test_the_capacity_of_a_bucket_is_changed_and_that_of_a_server_is_not(cloud: SmallCloud) -> None:
    store = await added(cloud, capacitybytes="1000")
    answer = await cloud.call("updateImageStore", id=store["id"], capacitybytes=2000)
    assert answer["imagestore"]["disksizetotal"] == 2000
    row = cloud.database.run_now(zones.store_by_uuid, store["id"])
    measured = cloud.database.run_now(record_usage, row.id, StoreStats(0, 0), 0.75)
    assert measured.capacity_bytes == 2000
    for uuid, capacity, message in (
        (store["id"], -1, "above -1"),
        (cloud.store.uuid, 2000, "is not a bucket"),
    ):
        with pytest.raises((StoreDefinitionError, ApiError), match=message):
            await cloud.call("updateImageStore", id=uuid, capacitybytes=capacity)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"secretkey": ""}, "have no secretkey"),
        ({"colour": "blue"}, "colour is not a detail of an S3 store"),
        ({"s3signer": "S3SignerType"}, "signer is not supported"),
        ({"usehttps": "maybe"}, "usehttps must be true or false"),
        ({"endpoint": "http://s3.example.test", "usehttps": "true"}, "usehttps contradicts"),
        ({"endpoint": "s3.example.test/x"}, r"endpoint is not HOST\[:PORT\]"),
        ({"endpoint": "s3.example.test:99999"}, "cannot be parsed"),
        ({"endpoint": "me@s3.example.test"}, "is not https://HOST"),
        ({"endpoint": "s3 example"}, "endpoint of the bucket is not HOST"),
        ({"bucket": "a/b"}, "name of the bucket"),
        ({"bucket": "a..b"}, "name of the bucket"),
        ({"capacitybytes": "0"}, "not a number above 0"),
        ({"cacertificate": "x"}, "not a certificate"),
        ({"accesskey": "a\nb"}, "printable"),
    ],
)
def test_wrong_details_are_refused_without_the_secret(change: dict[str, str], message: str) -> None:
    with pytest.raises(StoreDefinitionError, match=message) as refused:
        BucketDefinition.of_details(DETAILS | change)
    assert "very-secret" not in f"{refused.value} {refused.value.hint}"


def test_cloudstacks_settings_of_its_own_client_are_accepted() -> None:
    more = {"connectiontimeout": "60000", "maxerrorretry": "3", "s3signer": "AWSS3V4SignerType"}
    definition = BucketDefinition.of_details(DETAILS | more | {"usehttps": "false"})
    assert definition.bucket.url == "http://s3.example.test/images"


@pytest.mark.parametrize(
    "url", ["ftp://a/b1", "https://a", "https://a/b1?c", "https://a:0/b1", "https:///b1"]
)
def test_an_address_that_is_not_a_buckets_is_refused(url: str) -> None:
    with pytest.raises(S3BucketError):
        parse_bucket_url(url)

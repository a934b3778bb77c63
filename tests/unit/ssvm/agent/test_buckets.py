# SPDX-License-Identifier: Apache-2.0
"""Stores that are buckets as the agent knows them: their keys, and the way of each call."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
import pytest_twisted
from attrs import evolve

from systemvm.rpc.core.errors import RpcError
from systemvm.rpc.core.method import Call, Caller, MethodTable
from systemvm.ssvm import recording_messages, store_messages
from systemvm.ssvm.agent.download import as_download
from systemvm.ssvm.agent.recordings import RecordingMethods
from systemvm.ssvm.agent.store_client import StoreClient
from systemvm.ssvm.fetch_messages import BUCKET, BucketCall
from systemvm.ssvm.paths import Paths
from systemvm.ssvm.store_messages import FindRequest, FindResult, JobKey, PublishRequest
from systemvm.wire.recording import (
    RECORDING_APPEND,
    RECORDING_DELETE,
    RECORDING_READ,
    RecordingContent,
    RecordingPlace,
    RecordingRange,
    StoredPiece,
    StoredSize,
)
from systemvm.wire.role import Role
from systemvm.wire.s3_bucket import S3Bucket
from systemvm.wire.storage import CopyRequest, ImageFormat, PublishedFile, Store
from systemvm.wire.transfer_failure import TransferFailure

KEYLESS = S3Bucket("s3.example.test", 443, "images")
KEYED = evolve(KEYLESS, access_key="AKID", secret_key="very-secret", region="eu-north-1")
STORE = Store.of_bucket(KEYLESS)
MOUNT_ID = store_messages.mount_id(STORE)


class Fetch:
    """Answers operations on buckets, and notes them."""

    def __init__(self) -> None:
        self.calls: list[BucketCall] = []
        self.answers: dict[str, Any] = {
            store_messages.STATS: {"capacity_bytes": 0, "used_bytes": 0},
            store_messages.FIND: {"published": None},
            store_messages.PROBE: {},
        }

    async def call(self, method: str, params: BucketCall, **more: Any) -> Any:
        assert method == BUCKET
        self.calls.append(params)
        return self.answers[params.method]


def client(fetch: Fetch) -> StoreClient:
    async def connected() -> Any:
        return fetch

    return StoreClient(None, Paths(), connected)


@pytest_twisted.ensureDeferred
async def test_the_keys_of_a_setup_are_used_by_calls_that_lack_them() -> None:
    fetch = Fetch()
    stores = client(fetch)
    assert await stores.mount(Store.of_bucket(KEYED)) == MOUNT_ID
    await stores.ensure_mounted(STORE)
    assert stores.bucket_of(STORE) == KEYED
    order = FindRequest(MOUNT_ID, "job-1", 2, 204)
    assert await stores.call(store_messages.FIND, order, FindResult) == FindResult()
    assert [each.method for each in fetch.calls] == [
        store_messages.STATS,
        store_messages.PROBE,
        store_messages.FIND,
    ]
    assert {each.bucket for each in fetch.calls} == {KEYED}
    assert msgspec.convert(fetch.calls[-1].params, type=FindRequest) == order
    assert "very-secret" not in repr(fetch.calls)


@pytest_twisted.ensureDeferred
async def test_a_bucket_whose_keys_have_not_come_is_not_mounted() -> None:
    fetch = Fetch()
    stores = client(fetch)
    for call in (stores.ensure_mounted(STORE), stores.mount(STORE)):
        with pytest.raises(RpcError) as refused:
            await call
        assert refused.value.reason == TransferFailure.STORE_NOT_MOUNTED.value
    await stores.mount(Store.of_bucket(KEYED))
    await stores.unmount(STORE)
    with pytest.raises(RpcError):
        stores.bucket_of(STORE)
    assert len(fetch.calls) == 2


OTHER = evolve(KEYED, access_key="AKID2", secret_key="most-secret")


class RefusingFetch(Fetch):
    """Has one operation fail with a reason, for other keys than KEYED."""

    def __init__(self, method: str, reason: TransferFailure) -> None:
        super().__init__()
        self._method, self._reason = method, reason

    async def call(self, method: str, params: BucketCall, **more: Any) -> Any:
        if params.method == self._method and params.bucket != KEYED:
            raise RpcError.refused(self._reason, "no")
        return await super().call(method, params, **more)


@pytest.mark.parametrize("method", [store_messages.STATS, store_messages.PROBE])
@pytest_twisted.ensureDeferred
async def test_keys_that_the_server_refuses_replace_none_that_were_known(method: str) -> None:
    stores = client(RefusingFetch(method, TransferFailure.STORE_REFUSES))
    await stores.mount(Store.of_bucket(KEYED))
    assert stores.has_other_keys(Store.of_bucket(OTHER))
    with pytest.raises(RpcError):
        await stores.mount(Store.of_bucket(OTHER))
    assert stores.bucket_of(STORE) == KEYED
    assert not stores.has_other_keys(Store.of_bucket(KEYED))
    assert not stores.has_other_keys(STORE), "other calls have none"


@pytest_twisted.ensureDeferred
async def test_keys_are_kept_while_the_server_cannot_be_reached() -> None:
    stores = client(RefusingFetch(store_messages.STATS, TransferFailure.STORE_UNREACHABLE))
    await stores.mount(Store.of_bucket(KEYED))
    with pytest.raises(RpcError):
        await stores.mount(Store.of_bucket(OTHER))
    assert stores.bucket_of(STORE) == OTHER, "the daemon decides which hold"


@pytest_twisted.ensureDeferred
async def test_writing_is_tried_once_for_keys_and_never_on_a_read_only_store() -> None:
    fetch = Fetch()
    stores = client(fetch)
    for _ in range(2):
        await stores.mount(Store.of_bucket(KEYED))
    await stores.mount(Store.of_bucket(OTHER, read_only=True))
    assert [each.method for each in fetch.calls].count(store_messages.PROBE) == 1


@pytest_twisted.ensureDeferred
async def test_a_job_is_found_by_the_store_that_it_names() -> None:
    fetch = Fetch()
    fetch.answers[store_messages.PUBLISH] = {"published": None}
    stores = client(fetch)
    await stores.mount(Store.of_bucket(KEYED))
    job = JobKey(MOUNT_ID, "s-1-VM", "job-1")
    order = PublishRequest(job, 2, 204, "204-2-x", "", ImageFormat.RAW, True, True, 512, "")
    await stores.call(store_messages.PUBLISH, order, FindResult)
    assert fetch.calls[-1].method == store_messages.PUBLISH


def test_a_mounted_store_is_no_bucket() -> None:
    assert client(Fetch()).bucket_of(Store("10.12.0.2", "/export")) is None


def test_a_copy_is_a_download_whose_place_is_known() -> None:
    copy = CopyRequest(
        "job-1", "r-1", 204, 2, "204-2-x", "x", ImageFormat.QCOW2, STORE, PublishedFile(1, 7, "a.qcow2"),
        Store("10.12.0.2", "/export"), 1 << 30, source_checksum="{SHA-256}00", checksum="{MD5}11",
    )  # fmt: skip
    download = as_download(copy)
    assert download.url == "https://s3.example.test/images/1/7/a.qcow2"
    assert (download.store, download.checksum) == (copy.store, copy.source_checksum)


@pytest_twisted.ensureDeferred
async def test_recordings_are_written_read_and_deleted_by_fetch() -> None:
    fetch = Fetch()
    fetch.answers |= {
        recording_messages.RECORDING_WRITE: {"size_bytes": 5},
        recording_messages.RECORDING_CONTENT: {"data": base64.b64encode(b"a\xff").decode(), "size_bytes": 5},
        recording_messages.RECORDING_REMOVE: {},
    }
    stores = client(fetch)
    await stores.mount(Store.of_bucket(KEYED))
    methods = MethodTable("agent", "0")
    RecordingMethods(stores).add_methods(methods)
    call = Call(Caller("host-1", Role.MANAGEMENT.value), "request", None)
    piece = StoredPiece(STORE, 2, "r-1", 3, b"\x00\xff")
    assert await methods.dispatch(call, RECORDING_APPEND, msgspec.to_builtins(piece)) == StoredSize(5)
    written = msgspec.convert(fetch.calls[-1].params, type=recording_messages.RecordingWrite)
    assert written == recording_messages.RecordingWrite(MOUNT_ID, 2, "r-1", 3, b"\x00\xff")
    wanted = RecordingRange(STORE, 2, "r-1", 0, 9)
    content = await methods.dispatch(call, RECORDING_READ, msgspec.to_builtins(wanted))
    assert content == RecordingContent(b"a\xff", 5)
    await methods.dispatch(call, RECORDING_DELETE, msgspec.to_builtins(RecordingPlace(STORE, 2, "r-1")))
    assert fetch.calls[-1].method == recording_messages.RECORDING_REMOVE
    assert {each.bucket for each in fetch.calls} == {KEYED}

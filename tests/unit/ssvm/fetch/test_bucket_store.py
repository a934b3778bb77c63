# SPDX-License-Identifier: Apache-2.0
"""Operations on buckets as the agent asks for them: their messages, and which wait for one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from fake_bucket import FakeBucket
from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.fetch.bucket_store import BucketStore
from systemvm.ssvm.limits import DEFAULT
from systemvm.ssvm.recording_messages import (
    RECORDING_CONTENT,
    RECORDING_REMOVE,
    RECORDING_WRITE,
    RecordingContentRequest,
    RecordingKey,
    RecordingWrite,
)
from systemvm.ssvm.s3.listing import Exchange
from systemvm.wire.recording import RecordingContent, RecordingRefusal, StoredSize
from systemvm.wire.s3_bucket import S3Bucket

BUCKET = S3Bucket("s3.example.test", 443, "images")


class Store(BucketStore):
    """Runs operations on a bucket in memory; each waits until the test lets it run."""

    def __init__(self) -> None:
        super().__init__(None, DEFAULT)
        self.bucket = FakeBucket()
        self.waiting: list[Deferred[None]] = []

    async def _run(self, bucket: S3Bucket, work: Callable[[Exchange], Any]) -> Any:
        turn: Deferred[None] = Deferred()
        self.waiting.append(turn)
        await turn
        return work(self.bucket)

    def begin(self, method: str, order: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.call(BUCKET, method, msgspec.to_builtins(order)))

    async def finish(self, method: str, order: Any, result: Any) -> Any:
        begun = self.begin(method, order)
        self.waiting.pop().callback(None)
        return msgspec.convert(await begun, type=result)


def piece(recording_id: str, offset: int, data: bytes) -> RecordingWrite:
    return RecordingWrite("m", 2, recording_id, offset, data)


@pytest_twisted.ensureDeferred
async def test_a_recording_is_written_read_and_removed() -> None:
    store = Store()
    assert await store.finish(RECORDING_WRITE, piece("r-1", 0, b"a\xff"), StoredSize) == StoredSize(2)
    wanted = RecordingContentRequest("m", 2, "r-1", 1, 9)
    assert await store.finish(RECORDING_CONTENT, wanted, RecordingContent) == RecordingContent(b"\xff", 2)
    await store.finish(RECORDING_REMOVE, RecordingKey("m", 2, "r-1"), Any)
    assert store.bucket.objects == {}
    with pytest.raises(RpcError) as refused:
        await store.finish(RECORDING_WRITE, piece("r-1", 2, b"late"), StoredSize)
    assert refused.value.reason == RecordingRefusal.UNKNOWN.value


@pytest_twisted.ensureDeferred
async def test_writes_of_a_recording_run_one_after_another() -> None:
    store = Store()
    first = store.begin(RECORDING_WRITE, piece("r-1", 0, b"one "))
    second = store.begin(RECORDING_WRITE, piece("r-1", 4, b"two"))
    other = store.begin(RECORDING_WRITE, piece("r-2", 0, b"other"))
    assert len(store.waiting) == 2, "those of another recording wait for nothing"
    store.waiting.pop().callback(None)
    assert await other == {"size_bytes": 5}
    store.waiting.pop().callback(None)
    assert await first == {"size_bytes": 4}
    store.waiting.pop().callback(None)
    assert await second == {"size_bytes": 7}
    assert store._changing == {}, "nothing is kept of what has ended"

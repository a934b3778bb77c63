# SPDX-License-Identifier: Apache-2.0
"""The rate of a mover: kept over any time, changed at any time."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.http_response import ResumePoint
from systemvm.ssvm.limits import KIB, MIB
from systemvm.ssvm.mover.rate_limit import (
    BURST_S,
    MAX_DEBT_S,
    MIN_READ_BYTES,
    LimitedSource,
    RateLimit,
    TokenBucket,
)
from systemvm.ssvm.mover_messages import MoverJob, MoverRate, decode_control, encode
from systemvm.wire.storage import ImageFormat

RATE = 100 * KIB


class Endless:
    """A source that fills every buffer at once."""

    total_bytes = content_encoding = None
    received_bytes = 0

    def resume_point(self) -> ResumePoint | None:
        return None

    def read_into(self, buffer: memoryview) -> int:
        self.received_bytes += len(buffer)
        return len(buffer)


def received_in(bucket: TokenBucket, seconds: float, begun_s: float = 0.0) -> tuple[int, float]:
    """Read as fast as the bucket allows; return the bytes and the time when it allows the next read."""
    now_s, received = begun_s, 0
    while now_s < begun_s + seconds:
        count = bucket.largest_read(256 * KIB)
        bucket.take(count, now_s)
        received += count
        now_s += bucket.wait_s(now_s)
    return received, now_s


@pytest.mark.parametrize("rate", [MIN_READ_BYTES, RATE, 50 * MIB])
def test_the_rate_is_kept(rate: int) -> None:
    received, ended_s = received_in(TokenBucket(rate, 0.0), 20.0)
    assert received / ended_s == pytest.approx(rate, rel=0.05)


def test_no_limit_never_waits() -> None:
    bucket = TokenBucket(None, 0.0)
    assert bucket.largest_read(MIB) == MIB
    bucket.take(100 * MIB, 0.0)
    assert bucket.wait_s(0.0) == 0.0


def test_time_without_reads_is_not_saved_up() -> None:
    bucket = TokenBucket(RATE, 0.0)
    bucket.take(RATE, 1000.0)
    assert bucket.wait_s(1000.0) == pytest.approx(1.0 - BURST_S)


def test_a_changed_rate_holds_at_once() -> None:
    bucket = TokenBucket(RATE, 0.0)
    bucket.take(10 * RATE, 0.0)
    bucket.set(RATE // 2, 0.0)
    assert bucket.wait_s(0.0) == pytest.approx(MAX_DEBT_S)
    bucket.set(2 * RATE, 0.0)
    assert bucket.wait_s(0.0) == pytest.approx(MAX_DEBT_S / 4), "a debt is not forgiven"
    received, ended_s = received_in(bucket, 10.0, MAX_DEBT_S / 4)
    assert received / ended_s == pytest.approx(2 * RATE, rel=0.1)
    bucket.set(None, ended_s)
    assert bucket.wait_s(ended_s) == 0.0


@given(st.lists(st.tuples(st.integers(1, MIB), st.floats(0, 3)), max_size=50), st.integers(8 * KIB, 10 * MIB))
def test_no_pattern_of_reads_is_faster(reads: list[tuple[int, float]], rate: int) -> None:
    bucket, now_s, received = TokenBucket(rate, 0.0), 0.0, 0
    for count, pause_s in reads:
        now_s += pause_s + bucket.wait_s(now_s + pause_s)
        bucket.take(count, now_s)
        received += count
    now_s += bucket.wait_s(now_s)
    assert received <= rate * (now_s + BURST_S) + 1


def test_a_reader_that_waits_goes_on_when_the_limit_is_lifted() -> None:
    source = Endless()
    limit = RateLimit(1)  # byte a second: a read of 4 KiB waits for more than an hour
    limited = LimitedSource(source, limit)
    read: list[int] = []
    reader = threading.Thread(target=lambda: read.append(limited.read_into(memoryview(bytearray(MIB)))))
    reader.start()
    limit.set(None)
    reader.join()
    assert read == [MIN_READ_BYTES]
    assert limited.read_into(memoryview(bytearray(MIB))) == MIB
    assert limited.received_bytes == source.received_bytes


def test_lines_for_a_mover_are_told_apart() -> None:
    job = MoverJob("j", "x.test", "x.test", "/", False, ImageFormat.RAW, 1, rate_bytes_per_s=5)
    assert decode_control(encode(job)) == job
    for rate in (None, 7):
        assert decode_control(encode(MoverRate(rate))) == MoverRate(rate)

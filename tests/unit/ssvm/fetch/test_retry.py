# SPDX-License-Identifier: Apache-2.0
"""Retries of a broken transfer: delays, budget and minimum rate."""

from __future__ import annotations

import pytest
from attrs import evolve

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.retry import RetryBudget
from systemvm.ssvm.limits import DEFAULT, KIB
from systemvm.ssvm.mover.minimum_rate import MinimumRate
from systemvm.wire.transfer_failure import TransferFailure

LIMITS = evolve(
    DEFAULT, retry_budget_s=100.0, first_byte_budget_s=100.0,
    retry_base_delay_s=1.0, retry_max_delay_s=10.0, retry_progress_bytes=1000,
    max_fruitless_restarts=2,
)  # fmt: skip


class FakeClock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def budget(clock: FakeClock) -> RetryBudget:
    return RetryBudget(LIMITS, clock, lambda high: high)


def test_delays_grow_up_to_their_maximum_and_are_reset_by_progress() -> None:
    retries = budget(FakeClock())
    assert [retries.next_delay_s() for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    retries.note_progress(999)
    assert retries.next_delay_s() == 10.0, "999 bytes are below the threshold"
    retries.note_progress(1000)
    assert retries.next_delay_s() == 1.0


def test_jitter_is_full() -> None:
    highs: list[float] = []

    def jitter(high: float) -> float:
        highs.append(high)
        return 0.25 * high

    retries = RetryBudget(LIMITS, FakeClock(), jitter)
    assert [retries.next_delay_s() for _ in range(3)] == [0.25, 0.5, 1.0]
    assert highs == [1.0, 2.0, 4.0]
    drawn = [RetryBudget(LIMITS, FakeClock()).next_delay_s() for _ in range(50)]
    assert all(delay is not None and 0 <= delay <= 1 for delay in drawn)
    assert len(set(drawn)) > 1


def test_refused_connections_are_retried_only_for_a_restart_of_the_server() -> None:
    clock = FakeClock()
    retries, refused = budget(clock), TransferError(TransferFailure.CONNECTION_REFUSED, "refused")
    assert retries.next_delay_s(refused) == 1.0
    clock.now_s = LIMITS.refused_budget_s
    assert retries.next_delay_s(refused) is None
    retries.note_progress(1)
    assert retries.next_delay_s(refused) is not None, "it has sent a part of the file: it will be back"
    assert LIMITS.scaled(8).refused_budget_s == LIMITS.refused_budget_s


def test_the_budget_ends_without_progress_and_is_renewed_by_progress() -> None:
    clock = FakeClock()
    retries = budget(clock)
    clock.now_s = 1000.0
    assert retries.next_delay_s() is not None, "time before the first failure is not counted"
    clock.now_s = 1099.5
    assert retries.next_delay_s() == 0.5, "the last attempt is within the budget"
    clock.now_s = 1100.0
    assert retries.next_delay_s() is None
    retries.note_progress(5000)
    assert retries.next_delay_s() is not None
    clock.now_s = 1300.0
    assert retries.next_delay_s() is None


def test_restarts_without_progress_are_limited() -> None:
    retries = budget(FakeClock())
    for received, is_allowed in ((5000, True), (5000, True), (4000, False)):
        retries.note_progress(received)
        assert retries.restart() is is_allowed
    further = budget(FakeClock())
    for received in range(5000, 50_000, 5000):
        further.note_progress(received)
        assert further.restart(), "each attempt got further"


def test_restarts_without_a_byte_are_limited_only_by_time() -> None:
    retries = budget(FakeClock())
    assert all(retries.restart() for _ in range(20))


@pytest.mark.parametrize(
    "code",
    [
        TransferFailure.CONNECTION_LOST,
        TransferFailure.TRUNCATED,
        TransferFailure.STALLED,
        TransferFailure.HTTP_UNAVAILABLE,
        TransferFailure.NAME_NOT_FOUND,
    ],
)
def test_faults_of_network_and_server_are_retryable(code: TransferFailure) -> None:
    assert code.is_retryable


@pytest.mark.parametrize(
    "code",
    [
        TransferFailure.STORE_FAILED,
        TransferFailure.STORE_FULL,
        TransferFailure.CHECKSUM_MISMATCH,
        TransferFailure.FORMAT_UNSAFE,
        TransferFailure.HTTP_STATUS,
        TransferFailure.URL_DENIED,
        TransferFailure.TOO_LARGE,
        TransferFailure.ABORTED,
        TransferFailure.MEMORY_LIMIT,
        TransferFailure.TLS_FAILED,
    ],
)
def test_faults_of_image_store_and_user_are_not_retryable(code: TransferFailure) -> None:
    assert not code.is_retryable


def test_the_minimum_rate_counts_only_waits_for_the_source() -> None:
    limits = evolve(DEFAULT, slow_window_s=10.0, slow_window_bytes=64 * KIB)
    rate = MinimumRate(limits)
    for _ in range(100):
        rate.note(0.0, 1)  # time that the store takes is not counted
        rate.check()
    rate.note(10.0, 1)
    with pytest.raises(TransferError) as slow:
        rate.check()
    assert slow.value.code is TransferFailure.STALLED
    quick = MinimumRate(limits)
    for _ in range(10):
        quick.note(10.0, 64 * KIB)
        quick.check()


def test_the_budget_before_the_first_byte_is_its_own() -> None:
    clock = FakeClock()
    limits = evolve(LIMITS, first_byte_budget_s=20.0)
    retries = RetryBudget(limits, clock, lambda high: high)
    assert retries.next_delay_s() is not None
    clock.now_s = 20.0
    assert retries.next_delay_s() is None
    retries.note_progress(1)
    assert retries.next_delay_s() is not None


def test_a_server_that_names_its_wait_is_not_asked_before() -> None:
    retries = budget(FakeClock())
    busy = TransferError(TransferFailure.HTTP_UNAVAILABLE, "busy")
    busy.retry_after_s = 30.0
    assert retries.next_delay_s(busy) == 31.0
    busy.retry_after_s = 101.0
    assert retries.next_delay_s(busy) is None, "it is longer than the budget"


def test_a_name_that_does_not_exist_ends_a_download_only_before_its_first_byte() -> None:
    retries = budget(FakeClock())
    absent = TransferError(TransferFailure.NAME_NOT_FOUND, "NXDOMAIN")
    assert not retries.is_transient(absent)
    assert retries.is_transient(TransferError(TransferFailure.NAME_SERVER_FAILED, "SERVFAIL"))
    assert retries.is_transient(TransferError(TransferFailure.CONNECTION_REFUSED, "refused"))
    assert not retries.is_transient(TransferError(TransferFailure.HTTP_STATUS, "404"))
    retries.note_progress(1)
    assert retries.is_transient(absent)


def test_a_mover_that_died_is_replaced_once_and_again_after_progress() -> None:
    retries = budget(FakeClock())
    for received, is_replaced in ((500, True), (500, False)):
        retries.note_progress(received)
        assert retries.replace_worker() is is_replaced
    further = budget(FakeClock())
    for received in range(5000, 50_000, 5000):
        further.note_progress(received)
        assert further.replace_worker(), "each got further"
    assert not further.replace_worker()


def test_a_store_that_fails_ends_a_download_only_before_its_first_byte() -> None:
    failed = TransferError(TransferFailure.STORE_FAILED, "Input/output error")
    retries = budget(FakeClock())
    assert not retries.is_transient(failed)
    retries.note_progress(1)
    assert retries.is_transient(failed)
    assert not retries.is_transient(TransferError(TransferFailure.STORE_FULL, "no space"))


def test_a_budget_that_is_used_up_can_be_renewed() -> None:
    clock = FakeClock()
    retries = budget(clock)
    assert retries.next_delay_s() == 1.0
    clock.now_s = 100.0
    assert retries.next_delay_s() is None
    retries.renew()
    assert retries.next_delay_s() == 1.0

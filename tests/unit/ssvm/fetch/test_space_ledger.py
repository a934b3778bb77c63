# SPDX-License-Identifier: Apache-2.0
"""Downloads that run at the same time do not count on the same free bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.space_ledger import SpaceLedger
from systemvm.wire.transfer_failure import TransferFailure

CAPACITY = 1000


def test_what_others_still_need_is_not_free() -> None:
    ledger = SpaceLedger()
    ledger.reserve("one", "store", 600, CAPACITY)
    with pytest.raises(TransferError) as full:
        ledger.reserve("two", "store", 500, CAPACITY)
    assert full.value.code is TransferFailure.STORE_FULL
    assert "600 of them for other downloads" in full.value.message
    ledger.reserve("two", "another store", 500, CAPACITY)
    ledger.release("one")
    ledger.reserve("three", "store", 1000, CAPACITY)


def test_what_is_written_already_is_not_reserved_twice() -> None:
    ledger = SpaceLedger()
    ledger.reserve("one", "store", 600, CAPACITY)
    ledger.note("one", 500)
    ledger.reserve("two", "store", 400, CAPACITY - 500)


def test_what_is_kept_of_an_earlier_attempt_needs_no_space_again() -> None:
    ledger = SpaceLedger()
    ledger.reserve("one", "store", 800, free_bytes=300, kept_bytes=700)
    with pytest.raises(TransferError):
        ledger.reserve("two", "store", 250, free_bytes=300)
    ledger.reserve("two", "store", 200, free_bytes=300)


def test_a_job_that_begins_again_reserves_for_itself_once() -> None:
    ledger = SpaceLedger()
    ledger.reserve("one", "store", 600, CAPACITY)
    ledger.reserve("one", "store", 600, CAPACITY)
    ledger.release("one")
    ledger.release("one")


@given(st.lists(st.tuples(st.integers(1, 600), st.floats(0, 1)), max_size=20))
def test_admitted_jobs_always_fit_together(jobs: list[tuple[int, float]]) -> None:
    ledger = SpaceLedger()
    written, admitted = 0, 0
    for number, (size, part) in enumerate(jobs):
        try:
            ledger.reserve(str(number), "store", size, CAPACITY - written)
        except TransferError:
            continue
        admitted += size
        ledger.note(str(number), int(part * size))
        written += int(part * size)
    assert admitted <= CAPACITY

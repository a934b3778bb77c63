# SPDX-License-Identifier: Apache-2.0
"""Downloads of one account do not count on the same bytes of its limit."""

from __future__ import annotations

import pytest

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.quota_ledger import QuotaLedger
from systemvm.wire.transfer_failure import TransferFailure


def test_a_file_that_fits_is_reserved() -> None:
    ledger = QuotaLedger()
    ledger.join("a", 2, 100)
    ledger.reserve("a", 100)
    ledger.reserve("a", 100)  # another mover of the same job
    assert ledger.left_for("a") == 100


def test_a_larger_file_is_refused_with_its_reason() -> None:
    ledger = QuotaLedger()
    ledger.join("a", 2, 100)
    with pytest.raises(TransferError) as refused:
        ledger.reserve("a", 101)
    assert refused.value.code is TransferFailure.QUOTA_EXCEEDED
    assert "101 bytes, 100 are left" in refused.value.message
    assert "max_account_secondary_storage_gib" in refused.value.hint


def test_what_others_of_the_account_reserved_is_not_left() -> None:
    ledger = QuotaLedger()
    ledger.join("a", 2, 100)
    ledger.join("b", 2, 100)
    ledger.join("other account", 3, 100)
    ledger.join("without a limit", 2, None)
    ledger.reserve("a", 60)
    assert ledger.left_for("b") == 40
    with pytest.raises(TransferError):
        ledger.reserve("b", 41)
    ledger.reserve("other account", 100)
    ledger.reserve("without a limit", 10**15)


def test_what_a_failed_one_reserved_is_left_again() -> None:
    ledger = QuotaLedger()
    for name in "ab":
        ledger.join(name, 2, 100)
    ledger.reserve("a", 60)
    ledger.leave("a")
    ledger.leave("a")
    ledger.reserve("b", 100)


def test_what_was_stored_meanwhile_is_not_left() -> None:
    """The daemon counted what was Ready when it requested the second job, so not the first."""
    ledger = QuotaLedger()
    for name in "ab":
        ledger.join(name, 2, 100)
    ledger.reserve("a", 60)
    ledger.leave("a", stored_bytes=70)
    assert ledger.left_for("b") == 30
    ledger.join("c", 2, 30)  # the daemon counts it by now
    assert ledger.left_for("c") == 30

# SPDX-License-Identifier: Apache-2.0
"""Which requests fit to an upload."""

from __future__ import annotations

import pytest

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.upload_facts import UploadFacts, failed
from systemvm.ssvm.upload_messages import UploadAction, UploadCall, UploadRefusal
from systemvm.wire.transfer_failure import TransferFailure


def body(offset: int = 0, size: int = 10, total: int | None = None, *, whole: bool = False) -> UploadCall:
    return UploadCall("job", UploadAction.RECEIVE, offset, size, total, is_whole=whole)


@pytest.mark.parametrize(
    ("facts", "call", "refusal"),
    [
        (UploadFacts(100, 50, 20), body(20, 30), None),
        (UploadFacts(100, 50, 20), body(20, 0), None),
        (UploadFacts(100, None, 0), body(0, 10, 50), None),
        (UploadFacts(100, None, 0), body(0, 10, 100), None),
        (UploadFacts(100, 50, 20), body(20, 31), UploadRefusal.TOO_LARGE),
        (UploadFacts(100, None, 0), body(0, 10, 101), UploadRefusal.TOO_LARGE),
        (UploadFacts(100, None, 0), body(0, 11, 10), UploadRefusal.TOO_LARGE),
        (UploadFacts(100, 50, 20), body(19, 1), UploadRefusal.OFFSET),
        (UploadFacts(100, 50, 20), body(21, 1), UploadRefusal.OFFSET),
        (UploadFacts(100, None, 0), body(0, 10), UploadRefusal.LENGTH),
        (UploadFacts(100, 50, 20), body(20, 1, 51), UploadRefusal.LENGTH),
        (UploadFacts(100), body(whole=True), None),
        (UploadFacts(100, 50, 0), body(whole=True), None),
        (UploadFacts(100, 50, 1), body(whole=True), UploadRefusal.USED),
        (UploadFacts(100, is_one_time=True), body(whole=True), UploadRefusal.USED),
        (UploadFacts(100, is_one_time=True), body(0, 10, 50), UploadRefusal.USED),
    ],
)
def test_only_what_goes_on_is_accepted(
    facts: UploadFacts, call: UploadCall, refusal: UploadRefusal | None
) -> None:
    answer = facts.refuse_body(call)
    assert (None if answer is None else answer.refusal) is refusal
    if answer is not None:
        assert (answer.offset, answer.total_bytes) == (facts.received_bytes, facts.total_bytes)


def test_the_length_is_said_once() -> None:
    facts = UploadFacts(100)
    facts.begin_body(body(0, 10, 50))
    assert (facts.total_bytes, facts.is_one_time) == (50, False)
    facts.begin_body(body(10, 10))
    assert facts.total_bytes == 50
    assert facts.refuse_length(50) is None
    refused = facts.refuse_length(49)
    assert refused is not None and refused.refusal is UploadRefusal.LENGTH


def test_a_form_takes_the_only_request() -> None:
    facts = UploadFacts(100, 50)
    facts.begin_body(body(0, 90, whole=True))
    assert (facts.total_bytes, facts.is_one_time) == (None, True)
    refused = facts.refuse_length(50)
    assert refused is not None and refused.refusal is UploadRefusal.USED


def test_an_end_says_whether_the_upload_goes_on() -> None:
    error = TransferError(TransferFailure.STALLED, "no data for 60 s")
    assert failed(error).refusal is UploadRefusal.ENDED
    answer = failed(error, goes_on=True)
    assert (answer.refusal, answer.code, answer.message) == (
        UploadRefusal.BROKEN,
        "stalled",
        "no data for 60 s",
    )

# SPDX-License-Identifier: Apache-2.0
"""One upload in fetch: its clients, its movers, and how it ends."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from systemvm.rpc.core.errors import RpcError
from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.upload_mover import PLACE_GRACE_S
from systemvm.ssvm.limits import DEFAULT
from systemvm.ssvm.upload_messages import (
    UploadAction,
    UploadAnswer,
    UploadRefusal,
)
from systemvm.wire.transfer_failure import TransferFailure
from unit.ssvm.fetch.upload_world import EXPIRES_S, World, body, call, code_of, form, receiving


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_file_comes_in_several_bodies(world: World) -> None:
    before = world.open_files()
    upload = world.begin()
    assert call(upload, UploadAction.CREATE, total_bytes=10).answers == [UploadAnswer(None, 0, 10)]
    assert not world.movers, "nothing of this machine is used before a byte comes"
    first = body(upload, 0, 4)
    [mover] = world.movers
    assert first.accepted is None
    mover.waits()
    assert first.accepted == UploadAnswer(None, 0, 10)
    mover.waits(4)
    assert first.answers == [UploadAnswer(None, 4, 10)]
    second = body(upload, 4, 6)
    assert second.accepted == UploadAnswer(None, 4, 10)
    assert len(mover.bodies) == 2
    mover.succeeds(10)
    assert second.answers == [UploadAnswer(None, 10, 10, is_complete=True)]
    assert upload.state.moved is not None
    assert (upload.state.status.received_bytes, world.removed) == (10, 0)
    assert call(upload, UploadAction.STATUS).answers == [UploadAnswer(None, 10, 10, is_complete=True)]
    world.clock.advance(PLACE_GRACE_S)
    assert world.clock.getDelayedCalls() == []
    assert world.open_files() == before


def test_where_the_file_continues_is_what_the_mover_finds(world: World) -> None:
    upload = world.begin(total_bytes=10)
    asked = call(upload, UploadAction.STATUS)
    assert asked.answers == []
    world.movers[0].waits(7)
    assert asked.answers == [UploadAnswer(None, 7, 10)]
    assert body(upload, 0, 10).refusal == "offset"
    assert body(upload, 7, 4).refusal == "too_large"
    assert body(upload, 7, 3, total=11).refusal == "length"
    assert body(upload, 7, 3).accepted is not None


def test_a_length_is_needed_and_bounded(world: World) -> None:
    upload = world.begin()
    assert call(upload, UploadAction.CREATE, total_bytes=1001).refusal == "too_large"
    client = body(upload, 0, 4, total=None)
    world.movers[0].waits()
    assert client.refusal == "length"


def test_one_body_at_a_time_and_a_stuck_one_gives_way(world: World) -> None:
    upload = world.begin()
    first = receiving(world, upload)
    mover = world.movers[0]
    mover.receives(3)
    assert body(upload, 3, 7).refusal == "locked"
    world.clock.advance(DEFAULT.upload_takeover_s)
    second = body(upload, 3, 7)
    assert first.is_broken_off
    assert (second.answers, second.accepted) == ([], None)
    mover.waits(3, TransferFailure.CONNECTION_LOST, "its client has gone")
    assert first.refusal == "broken"
    assert second.accepted == UploadAnswer(None, 3, 10)


def test_an_upload_that_nobody_begins_expires(world: World) -> None:
    upload = world.begin()
    world.clock.advance(EXPIRES_S - 1)
    upload.renew(EXPIRES_S + 100)
    world.clock.advance(50)
    assert not upload.state.ended
    world.clock.advance(51)
    assert (code_of(upload), world.removed) == ("upload_expired", 1)
    answer = call(upload, UploadAction.STATUS).answers[-1]
    assert (answer.refusal and answer.refusal.value, answer.code) == ("ended", "upload_expired")


def test_an_upload_that_has_begun_waits_a_day_for_its_client(world: World) -> None:
    upload = world.begin()
    receiving(world, upload)
    world.clock.advance(2 * DEFAULT.upload_abandoned_s)
    assert not upload.state.ended, "a body that is being received has no deadline here"
    world.movers[0].waits(4)
    upload.renew(0.0)  # of no effect any more
    world.clock.advance(DEFAULT.upload_abandoned_s - 1)
    assert not upload.state.ended
    world.clock.advance(1)
    assert (code_of(upload), world.removed) == ("stalled", 1)


def test_a_client_can_end_its_upload(world: World) -> None:
    upload = world.begin()
    receiving(world, upload)
    assert call(upload, UploadAction.TERMINATE).answers == [UploadAnswer()]
    assert world.movers[0].is_killed
    assert (code_of(upload), world.removed) == ("aborted", 1)


@pytest.mark.parametrize("has_mover", [False, True])
def test_an_abort_ends_it_at_once(world: World, has_mover: bool) -> None:
    upload = world.begin()
    client = receiving(world, upload) if has_mover else None
    upload.abort()
    assert (code_of(upload), world.removed, upload.is_cleaning_up) == ("aborted", 1, False)
    assert client is None or client.refusal == "ended"


def test_an_upload_that_is_suspended_has_no_outcome(world: World) -> None:
    upload = world.begin()
    client = receiving(world, upload)
    waiting = body(upload, 10, 0)
    upload.suspend()
    assert (upload.state.ended, world.removed) == (False, 0)
    assert (client.refusal, waiting.refusal) == ("broken", "locked")
    assert call(upload, UploadAction.STATUS).refusal == "broken"


def test_a_mover_that_dies_is_replaced_once(world: World) -> None:
    died = TransferError(TransferFailure.WORKER_DIED, "signal 9")
    upload = world.begin()
    client = receiving(world, upload)
    world.movers[0].fails(died)
    assert client.refusal == "broken"
    assert len(world.movers) == 1, "the next one comes with a client"
    again = body(upload, 0, 10)
    assert len(world.movers) == 2
    world.movers[1].waits()
    assert again.accepted is not None
    world.movers[1].fails(died)
    assert (again.refusal, code_of(upload), world.removed) == ("ended", "worker_died", 1)


def test_a_store_that_fails_for_a_moment_ends_no_upload(world: World) -> None:
    """As a download does, an upload continues behind what is durable once the store is back."""
    gone = TransferError(TransferFailure.STORE_FAILED, "EIO")
    upload = world.begin()
    client = receiving(world, upload)
    world.movers[0].receives(6)
    world.movers[0].fails(gone)
    assert (client.refusal, upload.state.ended) == ("broken", False)
    asked = call(upload, UploadAction.STATUS)
    world.movers[1].waits(5)
    assert asked.answers == [UploadAnswer(None, 5, 10)]
    for _ in range(DEFAULT.max_fruitless_restarts):  # one that gets no further is for good
        receiving(world, upload, 5)
        world.movers[-1].fails(gone)
    assert (code_of(upload), world.removed) == ("store_failed", 1)


def test_a_store_that_takes_no_byte_ends_it(world: World) -> None:
    upload = world.begin()
    client = body(upload, 0, 10)
    world.movers[0].fails(TransferError(TransferFailure.STORE_FAILED, "the export is read-only"))
    assert client.refusal == "ended"
    assert (code_of(upload), world.removed) == ("store_failed", 1)


def test_a_store_that_refuses_has_its_reason(world: World) -> None:
    world.store_fails = RpcError.refused(TransferFailure.STORE_NOT_MOUNTED, "not mounted", "wait")
    upload = world.begin()
    client = body(upload, 0, 10)
    assert (client.refusal, code_of(upload)) == ("ended", "store_not_mounted")


def test_a_form_brings_the_file_once(world: World) -> None:
    upload = world.begin()
    client = form(upload)
    world.movers[0].waits()
    assert client.accepted == UploadAnswer(None, 0, None)
    assert form(upload).refusal == "used"
    assert body(upload, 0, 10).refusal == "used"
    assert call(upload, UploadAction.CREATE, total_bytes=10).refusal == "used"
    world.movers[0].fails(TransferError(TransferFailure.WORKER_DIED, "signal 9"))
    assert (client.refusal, code_of(upload)) == ("ended", "worker_died")


def test_a_waiting_mover_is_ended_after_a_while_and_that_is_no_death(world: World) -> None:
    upload = world.begin()
    for number in range(4):
        client = receiving(world, upload, number)
        world.movers[number].waits(number + 1)
        assert client.answers == [UploadAnswer(None, number + 1, 10)]
        world.clock.advance(DEFAULT.upload_idle_s)
        assert world.movers[number].is_killed
    assert not upload.state.ended


def test_a_client_that_leaves_the_queue_takes_no_place(world: World) -> None:
    upload = world.begin()
    for _ in range(2):
        Deferred.fromCoroutine(world.gate.enter())
    client = body(upload, 0, 10)
    world.movers[0].waits()
    assert (client.accepted, world.gate.is_full) == (None, True)
    client.leaves()
    assert body(upload, 0, 10).answers == [], "the next one waits in its place"
    world.gate.leave()
    assert world.movers[0].bodies
    upload.abort()
    world.gate.leave()
    world.clock.advance(PLACE_GRACE_S)
    assert not world.gate.is_full


def test_a_client_that_leaves_before_there_is_a_mover_is_forgotten(world: World) -> None:
    upload = world.begin()
    client = body(upload, 0, 10)
    client.leaves()
    world.movers[0].waits()
    assert (client.accepted, client.answers) == (None, [])
    assert body(upload, 0, 10).accepted is not None


def test_a_file_that_does_not_fit_is_refused_before_its_first_byte(world: World) -> None:
    world.free_bytes = 9
    upload = world.begin()
    client = body(upload, 0, 10)
    world.movers[0].waits()
    assert client.accepted is None
    assert (client.answers[-1].code, code_of(upload)) == ("store_full", "store_full")


def test_an_order_that_is_invalid_ends_at_once(world: World) -> None:
    assert code_of(world.begin(checksum="{MD99}00")) == "checksum_invalid"


def test_an_unexpected_error_is_a_failure_of_this_vm(world: World) -> None:
    upload = world.begin()
    body(upload, 0, 10)
    world.movers[0].fails(ZeroDivisionError())
    assert (code_of(upload), world.removed) == ("internal", 1)


def test_a_store_that_stalls_lends_its_place(world: World) -> None:
    upload = world.begin()
    receiving(world, upload)
    Deferred.fromCoroutine(world.gate.enter())
    assert world.gate.is_full
    world.movers[0].stalls()
    assert (upload.state.status.waits_for_store, world.gate.is_full) == (True, False)
    world.movers[0].receives(5)
    assert (upload.state.status.waits_for_store, world.gate.is_full) == (False, True)


def test_a_length_is_reserved_before_a_byte_comes_and_again_when_there_is_room(world: World) -> None:
    upload = world.begin(has_quota=True)
    world.quota_fails = TransferError(TransferFailure.QUOTA_EXCEEDED, "nothing is left")
    [refused] = call(upload, UploadAction.CREATE, total_bytes=10).answers
    assert (refused.refusal, refused.message) == (UploadRefusal.TOO_LARGE, "nothing is left")
    assert not code_of(upload), "its client can come again"
    world.quota_fails = None
    assert call(upload, UploadAction.CREATE, total_bytes=10).answers == [UploadAnswer(None, 0, 10)]
    assert world.reserved == [10, 10]


def test_an_account_without_a_limit_reserves_nothing(world: World) -> None:
    upload = world.begin()
    assert call(upload, UploadAction.CREATE, total_bytes=10).answers == [UploadAnswer(None, 0, 10)]
    assert world.reserved == []


def test_an_s3_server_that_cannot_be_reached_leaves_the_decision_to_the_client(world: World) -> None:
    upload = world.begin()
    client = receiving(world, upload)
    world.movers[0].receives(4)
    world.movers[0].fails(TransferError(TransferFailure.STORE_UNREACHABLE, "no route"))
    assert client.refusal == "broken"
    assert not upload.state.ended
    assert world.clock.getDelayedCalls() != [], "it does not wait for ever"
    again = call(upload, UploadAction.STATUS)
    world.movers[1].waits(2)
    assert again.answers == [UploadAnswer(None, 2, 10)]


def test_a_form_ends_with_its_s3_server(world: World) -> None:
    upload = world.begin()
    client = form(upload)
    world.movers[0].waits()
    world.movers[0].fails(TransferError(TransferFailure.STORE_UNREACHABLE, "no route"))
    assert client.refusal == "ended"
    assert code_of(upload) == TransferFailure.STORE_UNREACHABLE.value


def test_a_mover_that_finds_the_whole_file_lets_nobody_wait(world: World) -> None:
    upload = world.begin(total_bytes=10)
    asked = call(upload, UploadAction.STATUS)
    late = body(upload, 10, 0)
    world.movers[0].succeeds(10)
    complete = UploadAnswer(None, 10, 10, is_complete=True)
    assert asked.answers == [complete]
    assert late.answers == [complete]

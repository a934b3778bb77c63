# SPDX-License-Identifier: Apache-2.0
"""The status of a download as fetch reports it."""

from __future__ import annotations

from systemvm.ssvm.failure import TransferError
from systemvm.ssvm.fetch.transfer_progress import MAX_STEPS, TransferProgress
from systemvm.ssvm.fetch_messages import FetchStatus
from systemvm.ssvm.mover_messages import MoverProgress, MoverResult
from systemvm.wire.storage import DownloadState
from systemvm.wire.transfer_failure import TransferFailure


def make() -> tuple[TransferProgress, list[FetchStatus]]:
    sent: list[FetchStatus] = []
    return TransferProgress("job-1", sent.append), sent


def test_a_step_is_sent_with_the_next_change() -> None:
    progress, sent = make()
    progress.add_step("one")
    assert sent == []
    progress.update(MoverProgress(10, 100, 0))
    assert [step.text for step in sent[0].status.steps] == ["one"]


def test_a_repeated_step_is_recorded_once() -> None:
    progress, sent = make()
    progress.add_step("one")
    progress.add_step("one", notify=True)
    assert [step.text for step in sent[0].status.steps] == ["one"]


def test_the_first_and_the_last_steps_are_kept() -> None:
    progress, _ = make()
    for number in range(3 * MAX_STEPS):
        progress.add_step(str(number))
    texts = [step.text for step in progress.state.status.steps]
    assert (len(texts), texts[0], texts[-1]) == (MAX_STEPS, "0", str(3 * MAX_STEPS - 1))


def test_an_unchanged_progress_is_not_sent() -> None:
    progress, sent = make()
    progress.update(MoverProgress(10, 100, 0))
    progress.update(MoverProgress(10, 100, 5))
    assert len(sent) == 1


def test_a_restart_resets_the_counts() -> None:
    progress, _ = make()
    progress.update(MoverProgress(10, 100, 0))
    progress.restart()
    status = progress.state.status
    assert (status.received_bytes, status.total_bytes) == (0, None)


def test_a_completed_transfer_waits_to_be_published() -> None:
    progress, sent = make()
    progress.complete(MoverResult("{SHA-256}0", 7, 7, 7))
    assert sent[-1].ended
    assert sent[-1].status.state is DownloadState.DOWNLOAD_IN_PROGRESS


def test_a_large_download_reports_that_it_waits_for_its_turn() -> None:
    progress, sent = make()
    progress.wait_for_turn()
    assert sent[-1].status.waits_for_turn
    progress.stop_waiting_for_turn()
    assert not sent[-1].status.waits_for_turn
    progress.wait_for_turn()
    progress.fail(TransferError(TransferFailure.STALLED, "no data"))
    assert not sent[-1].status.waits_for_turn


def test_a_failure_ends_the_wait_for_the_store() -> None:
    progress, sent = make()
    progress.wait_for_store()
    assert sent[-1].status.waits_for_store
    progress.fail(TransferError(TransferFailure.STALLED, "no data"))
    assert (sent[-1].status.state, sent[-1].status.waits_for_store) == (DownloadState.DOWNLOAD_ERROR, False)
